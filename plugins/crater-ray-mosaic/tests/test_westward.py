"""The IAU's systems that count longitudes westward, and projections that PROJ cannot invert."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from rasterio.warp import transform

from crater_ray.errors import ReaderError
from crater_ray_mosaic.raster import Raster

Paint = Callable[..., Path]


@pytest.mark.parametrize("code", [49901, 49911, 49916, 49936, 49900, 49910])
def test_a_place_is_where_gdal_has_it(tmp_path: Path, code: int) -> None:
    lons, lats = np.meshgrid([200.0, 215.0, 230.0], [60.0, 70.0, 80.0])
    east = rasterio.CRS.from_string("+proj=longlat +a=3396190 +b=3376200 +no_defs")
    crs = rasterio.CRS.from_authority("IAU_2015", code)
    if code % 10 == 0:
        east = rasterio.CRS.from_string("+proj=longlat +R=3396190 +no_defs")
    xs, ys = (np.array(one) for one in transform(east, crs, lons.ravel(), lats.ravel()))
    step = max(np.ptp(xs), np.ptp(ys)) / 200
    place = Affine(step, 0, xs.min() - 20 * step, 0, -step, ys.max() + 20 * step)
    path = tmp_path / "m.tif"
    with rasterio.open(path, "w", driver="GTiff", width=240, height=240, count=1, dtype="uint8", crs=crs,
                       transform=place) as file:  # fmt: skip
        file.write(np.zeros((1, 240, 240), np.uint8))
    frame = Raster(path).frame
    centric = lats.ravel()
    if frame.flattening:
        centric = np.degrees(np.arctan(np.tan(np.radians(centric)) * (1 - frame.flattening) ** 2))
    found: list[Any] = []
    for lat, lon in zip(centric, lons.ravel(), strict=True):
        rows, columns = frame.pixels(np.array([lat]), float(lon), np.zeros(1))
        found.append((float(columns[0]) + 0.5, float(rows[0]) + 0.5))
    wanted = np.column_stack([(xs - place.c) / place.a, (ys - place.f) / place.e])
    np.testing.assert_allclose(found, wanted, atol=0.05)
    assert frame.body == "mars"


def test_a_projection_without_an_inverse_is_named(paint: Paint) -> None:
    path = paint("a.tif", lambda lat, lon: lat + lon, -10, 10, 0.5, 40, 40, metres=30000.0,
                 crs="+proj=airy +R=1737400 +units=m")  # fmt: skip
    with pytest.raises(ReaderError, match=r"no way back from the projection of a\.tif.*gdalwarp"):
        Raster(path)


def test_an_extent_beside_a_broken_file_is_no_bare_error(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes(b"II*\0garbage")
    with pytest.raises((ReaderError, OSError), match=r"x\.tif"):
        Raster(path, extent=(-180, -90, 180, 90), radius_km=1737.4)
