"""Small rasters and catalogues, painted here."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

MOON = 1737.4


@pytest.fixture
def paint(tmp_path: Path) -> Callable[..., Path]:
    """paint(name, function or values, west, north, step, width, height): a GeoTIFF on the Moon's sphere.

    A function takes (lat, lon) in degrees at pixel centres.
    """

    def write(
        name: str,
        what: Any,
        west: float = -180.0,
        north: float = 90.0,
        step: float = 0.5,
        width: int = 720,
        height: int = 360,
        *,
        dtype: str = "float32",
        nodata: float | None = None,
        crs: str | None = f"+proj=longlat +R={MOON * 1000} +no_defs",
        metres: float = 1.0,
        **more: Any,
    ) -> Path:
        lat = north - (np.arange(height) + 0.5) * step
        lon = west + (np.arange(width) + 0.5) * step
        values = what(lat[:, None], lon[None, :]) if callable(what) else np.asarray(what)
        values = np.broadcast_to(values, (height, width)) if values.ndim < 3 else values
        bands = values[None] if values.ndim == 2 else values
        path = tmp_path / name
        transform = Affine(step * metres, 0.0, west * metres, 0.0, -step * metres, north * metres)
        with rasterio.open(
            path,
            "w",
            driver=more.pop("driver", "GTiff"),
            width=width,
            height=height,
            count=len(bands),
            dtype=dtype,
            crs=crs,
            transform=transform,
            nodata=nodata,
            **more,
        ) as file:
            file.write(bands.astype(dtype))
        return path

    return write


@pytest.fixture
def catalogue(tmp_path: Path) -> Callable[..., Path]:
    """catalogue(rows of (id, lat, lon, diameter), name): a CSV with the shared data's header."""

    def write(
        rows: list[tuple[Any, ...]], name: str = "craters.csv", header: str = "crater_id,lat,lon_e180,diam_km"
    ) -> Path:
        path = tmp_path / name
        path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
        return path

    return write


@pytest.fixture
def moon_data() -> Path:
    """The shared data's moon folder; skips where it is absent."""
    root = Path(os.environ.get("CRATER_RAY_DATA", Path(__file__).parents[3] / "../shared/data")) / "moon"
    if not (root / "first_look.csv").is_file():
        pytest.skip("the shared data are not here; set CRATER_RAY_DATA")
    return root
