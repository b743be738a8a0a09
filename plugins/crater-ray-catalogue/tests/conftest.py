"""Two made-up catalogues of one body as a reader of painted views, and a small DEM."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from crater_ray.testing import FakeIndex
from crater_ray.types import Item

MOON = 1737.4


class Painted:
    """A reader of entries: (id, catalogue, lat, lon, diameter, pattern). A pattern is a crater."""

    columns = pa.schema(
        [
            ("body", pa.string()),
            ("lat", pa.float64()),
            ("lon", pa.float64()),
            ("diameter_km", pa.float64()),
            ("half_width_km", pa.float64()),
            ("catalogue", pa.string()),
            ("crater", pa.string()),
        ]
    )

    def __init__(self, rows: list[tuple[str, str, float, float, float, int]], body: str = "moon") -> None:
        self.rows, self.body = rows, body

    def parts(self) -> list[str]:
        return ["all"]

    def read(self, part: str) -> Iterator[Item]:
        for number, (id, side, lat, lon, diameter, pattern) in enumerate(self.rows):
            columns = {
                "body": self.body,
                "lat": lat,
                "lon": lon,
                "diameter_km": diameter,
                "half_width_km": 1.5 * diameter,
                "catalogue": side,
                "crater": id,
            }
            name = f"{side}:{id}"
            yield Item(f"{name}_x3", name, f"{pattern}/{number}", columns=columns)

    def load(self, uri: str) -> np.ndarray[Any, Any]:
        pattern, number = map(int, uri.split("/"))
        base = np.random.default_rng(pattern).integers(20, 200, (4, 4, 3))
        noise = np.random.default_rng(10_000 + number).integers(0, 20, (4, 4, 3))
        return np.kron(base + noise, np.ones((8, 8, 1), int)).astype(np.uint8)


def rows_of_two(
    count: int = 150, lone: int = 40, jitter: float = 1.0, seed: int = 0
) -> list[tuple[str, str, float, float, float, int]]:
    """`count` craters in both catalogues, the second's `jitter` diameters off, and `lone` in one each."""
    draw = np.random.default_rng(seed)
    rows: list[tuple[str, str, float, float, float, int]] = []
    for number in range(count + 2 * lone):
        lat, lon = draw.uniform(-6, 6, 2)
        diameter = float(10 * draw.pareto(2) + 10)
        if number < count + lone:
            rows.append((f"A{number:03d}", "a", float(lat), float(lon), diameter, number))
        if number < count or number >= count + lone:
            turn, reach = draw.uniform(0, 2 * np.pi), np.degrees(jitter * diameter / MOON)
            other = float(diameter * np.exp(draw.normal(0, 0.03)))
            lat, lon = lat + reach * np.sin(turn), lon + reach * np.cos(turn)
            rows.append((f"B{number:03d}", "b", float(lat), float(lon), other, number))
    return rows


@pytest.fixture
def two() -> Callable[..., FakeIndex]:
    """two(**options of rows_of_two): an index of both."""
    return lambda **options: FakeIndex(Painted(rows_of_two(**options)))


@pytest.fixture
def painted() -> Callable[..., FakeIndex]:
    """painted(rows): an index of entries given one by one."""
    return lambda rows: FakeIndex(Painted(rows))


@pytest.fixture
def moon_data() -> Path:
    """The shared data's moon folder; skips where it is absent."""
    root = Path(os.environ.get("CRATER_RAY_DATA", Path(__file__).parents[3] / "../shared/data")) / "moon"
    if not (root / "first_look.csv").is_file():
        pytest.skip("the shared data are not here; set CRATER_RAY_DATA")
    return root
