"""A base map whose box cannot be its own is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from crater_ray.config import ServeTable
from crater_ray.serve.basemap import read_maps


@pytest.mark.parametrize(
    ("size", "box", "told"),
    [
        ((360, 180), None, False),
        ((361, 180), None, False),
        ((200, 200), None, True),
        ((200, 200), (0, 0, 10, 10), False),
        ((360, 180), (-180, -60, 180, 60), True),
    ],
)
def test_pixels_that_are_not_square(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    size: tuple[int, int],
    box: tuple[float, float, float, float] | None,
    told: bool,
) -> None:
    path = tmp_path / "moon.png"
    Image.new("L", size).save(path)
    table = ServeTable(basemap=path, **({"basemap_box": box} if box else {}))
    assert len(read_maps(table)) == len(read_maps(table)) == 1
    assert len([one for one in caplog.messages if "correct basemap_box" in one]) <= 1
    assert any(f"moon.png is {size[0]} by {size[1]} pixels" in one for one in caplog.messages) == told
