"""A raster inside an archive is read by GDAL's name and by rasterio's; addresses keep their slashes."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from crater_ray.plugins.registry import absolute
from crater_ray_mosaic.address import gdal_name
from crater_ray_mosaic.mosaic import mosaic
from crater_ray_mosaic.pose import Pose
from crater_ray_mosaic.raster import Raster
from crater_ray_mosaic.view import Rendering, render


@pytest.mark.parametrize("form", ["/vsizip/{}/in/r.tif", "zip://{}!in/r.tif"])
def test_an_archive_s_member_is_read(
    paint: Callable[..., Path], catalogue: Callable[..., Path], form: str
) -> None:
    plain = paint("r.tif", lambda a, b: np.sin(np.radians(9 * b)) + a / 90)
    archive = plain.parent / "r.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(plain, "in/r.tif")
    name = form.format(archive)
    views = [render(Raster(Path(one)), Pose(0, 0, 300), Rendering()) for one in (name, plain)]
    assert np.array_equal(*views)
    craters = catalogue([("a", 0.0, 0.0, 60.0)])
    reader = mosaic(raster=name, catalogue=craters, preset="hkpolyu")
    assert all(item.stamp for part in reader.parts() for item in reader.read(part))


@pytest.mark.parametrize(
    "name",
    [
        "/vsicurl/https://host/a/b.tif",
        "https://host/a/b.tif",
        "s3://bucket/b.tif",
        "/vsis3/bucket/b.tif",
        "/vsizip//vsicurl/https://host/a.zip/b.tif",
    ],
)
def test_an_address_keeps_its_slashes(tmp_path: Path, name: str) -> None:
    assert gdal_name(Path(absolute(Path(name), tmp_path))) == name
