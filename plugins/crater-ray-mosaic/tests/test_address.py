"""A raster inside an archive is read by GDAL's name and by rasterio's; addresses keep their slashes."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest

from crater_ray.errors import ReaderError
from crater_ray.plugins.paths import absolute
from crater_ray_mosaic.address import container, gdal_name
from crater_ray_mosaic.catalogue import Columns, read_catalogue
from crater_ray_mosaic.catalogue.measures import Body
from crater_ray_mosaic.fingerprint import fingerprint
from crater_ray_mosaic.mosaic import mosaic
from crater_ray_mosaic.pose import Pose
from crater_ray_mosaic.raster import Raster
from crater_ray_mosaic.rendering import Rendering
from crater_ray_mosaic.view import render


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


def test_names_are_relative_to_the_job_file(paint: Callable[..., Path], tmp_path: Path) -> None:
    job = tmp_path / "job"
    job.mkdir()
    with zipfile.ZipFile(job / "r.zip", "w") as file:
        file.write(paint("r.tif", lambda a, b: a + b), "in/r.tif")
    (job / "a.nc").touch()
    for text, wanted in {
        "/vsizip/r.zip/in/r.tif": f"/vsizip/{job}/r.zip/in/r.tif",
        f"/vsizip/{job}/r.zip/in/r.tif": f"/vsizip/{job}/r.zip/in/r.tif",
        "zip://r.zip!in/r.tif": f"zip://{job}/r.zip!in/r.tif",
        f"zip://{job}/r.zip!in/r.tif": f"zip://{job}/r.zip!in/r.tif",
        'NETCDF:"a.nc":band': f'NETCDF:"{job}/a.nc":band',
        f'NETCDF:"{job}/a.nc":band': f'NETCDF:"{job}/a.nc":band',
        "NETCDF:a.nc:band": f"NETCDF:{job}/a.nc:band",
        'HDF5:"a.nc"://group/band': f'HDF5:"{job}/a.nc"://group/band',
        'HDF4_SDS:UNKNOWN:"a.nc":0': f'HDF4_SDS:UNKNOWN:"{job}/a.nc":0',
        "GTIFF_DIR:2:a.nc": f"GTIFF_DIR:2:{job}/a.nc",
        "https://host/a.tif": "https://host/a.tif",
        "/vsicurl/https://host/a.tif": "/vsicurl/https://host/a.tif",
        "a.nc": f"{job}/a.nc",
        "more:a.tif": f"{job}/more:a.tif",
    }.items():
        assert gdal_name(absolute(Path(text), job)) == wanted, text
    assert container(absolute(Path('HDF5:"a.nc"://band'), job)) == job / "a.nc"


def test_a_dataset_inside_of_a_file_is_read_and_stamped(
    paint: Callable[..., Path], catalogue: Callable[..., Path]
) -> None:
    plain = paint("r.tif", lambda a, b: np.sin(np.radians(9 * b)) + a / 90)
    craters = catalogue([("a", 0.0, 0.0, 60.0)])

    def stamp() -> str:
        reader = mosaic(raster=f"GTIFF_DIR:1:{plain}", catalogue=craters, preset="hkpolyu")
        assert np.array_equal(
            reader.load("lat=0&lon=0&half_width_km=300"), reader.load("lat=0&lon=0&half_width_km=300")
        )
        return next(item.stamp for part in reader.parts() for item in reader.read(part))

    first = stamp()
    paint("r.tif", lambda a, b: np.sin(np.radians(8 * b)) + a / 90)
    assert stamp() != first


def test_an_archive_in_a_mosaic_counts_in_its_fingerprint(tmp_path: Path) -> None:
    archive, vrt = tmp_path / "r.zip", tmp_path / "m.vrt"
    vrt.write_text("<VRTDataset/>")
    names = [f"/vsizip/{archive}/a.tif", f"/vsizip/{archive}/b.tif"]
    found = []
    for byte in (b"1", b"2"):
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("a.tif", byte)
        found.append(fingerprint(vrt, names))
    assert found[0] != found[1]
    addresses = [fingerprint(Path(f"https://host/{name}")) for name in "aba"]
    assert addresses[0] == addresses[2] != addresses[1]


def test_catalogues_inside_of_an_archive(tmp_path: Path) -> None:
    points = geopandas.points_from_xy([1, 2], [3, 4], crs="+proj=longlat +R=1737400")
    frame = geopandas.GeoDataFrame({"crater_id": ["A", "B"], "diam_km": [40.0, 60.0]}, geometry=points)
    frame.to_file(tmp_path / "c.shp")
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as file:
        for suffix in ("shp", "shx", "dbf"):
            file.write(tmp_path / f"c.{suffix}", f"in/c.{suffix}")
        file.writestr("in/c.csv", "a,b")
    columns = Columns("crater_id", None, None, "diam_km")
    for name in (
        f"{tmp_path}/c.zip",
        f"/vsizip/{tmp_path}/c.zip/in/c.shp",
        f"zip://{tmp_path}/c.zip!in/c.shp",
    ):
        found = read_catalogue(Path(name), columns, body=Body(1737.4, 0.0))
        assert (found.ids, found.lat.tolist()) == (["A", "B"], [3.0, 4.0]), name
    with pytest.raises(ReaderError, match=r"/vsizip/.*c.csv is no file on this machine"):
        read_catalogue(Path(f"/vsizip/{tmp_path}/c.zip/in/c.csv"), columns, body=Body(1737.4, 0.0))
    with pytest.raises(ReaderError, match=r"https://host/c\.csv is no file on this machine"):
        read_catalogue(Path("https://host/c.csv"), columns, body=Body(1737.4, 0.0))
