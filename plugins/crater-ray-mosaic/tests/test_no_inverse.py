"""Projections that PROJ cannot invert, and files that extent is given for and GDAL cannot open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from crater_ray.errors import ReaderError
from crater_ray_mosaic.raster import Raster

Paint = Callable[..., Path]


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
