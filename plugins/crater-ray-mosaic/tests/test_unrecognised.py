"""Files that GDAL does not recognise say what to give in their place."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from crater_ray_mosaic.mosaic import Mosaic, mosaic
from crater_ray_mosaic.source import UnreadableRaster


def reader(folder: Path, raster: str | Path) -> Mosaic:
    (folder / "c.csv").write_text("id,lat,lon,d\nA,0,0,300\n")
    return mosaic(
        raster=str(raster),
        catalogue=str(folder / "c.csv"),
        id_column="id",
        lat_column="lat",
        lon_column="lon",
        diameter_column="d",
    )


@pytest.mark.parametrize(
    ("image", "label"),
    [("M1.IMG", "M1.LBL"), ("m1.img", "m1.xml"), ("m1.dat", "m1.dat.lbl"), ("m.IMG", "m.lbl")],
)
def test_an_image_with_a_detached_label_names_it(tmp_path: Path, image: str, label: str) -> None:
    (tmp_path / image).write_bytes(bytes(1000))
    (tmp_path / label).write_text("PDS_VERSION_ID = PDS3")
    (tmp_path / "other.lbl").write_text("PDS_VERSION_ID = PDS3")
    with pytest.raises(UnreadableRaster, match=f"; give its label as the raster: {label}$"):
        reader(tmp_path, tmp_path / image)


def test_an_archive_says_how_gdal_reads_it_and_gdal_does(tmp_path: Path) -> None:
    grid = np.random.default_rng(0).integers(0, 255, (1, 180, 360), dtype=np.uint8)
    place = {"crs": "+proj=longlat +R=1737400 +no_defs", "transform": Affine(1, 0, -180, 0, -1, 90)}
    with rasterio.open(
        tmp_path / "m.tif", "w", driver="GTiff", width=360, height=180, count=1, dtype="uint8", **place
    ) as file:
        file.write(grid)
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.write(tmp_path / "m.tif", "m.tif")
    with pytest.raises(UnreadableRaster) as told:
        reader(tmp_path, tmp_path / "m.zip")
    way = str(told.value).rpartition(" give ")[2]
    assert way == f"/vsizip/{tmp_path}/m.zip/NAME.tif"
    found = reader(tmp_path, way.replace("NAME", "m"))
    item = next(item for part in found.parts() for item in found.read(part))
    assert found.load(item.uri).shape[:2] == (224, 224)


@pytest.mark.parametrize("name", ["m.tar.gz", "m.tgz", "m.tar"])
def test_a_tar_too(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(bytes(1000))
    with pytest.raises(UnreadableRaster, match=f"unpack it, or give /vsitar/{tmp_path}/{name}/NAME.tif$"):
        reader(tmp_path, tmp_path / name)


def test_other_files_keep_gdals_words(tmp_path: Path) -> None:
    (tmp_path / "m.tif").write_text("hello")
    with pytest.raises(UnreadableRaster, match=r"not recognized as being in a supported file format\.$"):
        reader(tmp_path, tmp_path / "m.tif")
