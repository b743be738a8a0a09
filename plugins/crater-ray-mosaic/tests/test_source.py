"""A file that cannot be read is an error by its name, however often and from wherever it is asked."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

from crater_ray.cli import main
from crater_ray_mosaic.fingerprint import fingerprint
from crater_ray_mosaic.pose import Pose
from crater_ray_mosaic.raster import Raster
from crater_ray_mosaic.rendering import Rendering
from crater_ray_mosaic.source import UnreadableRaster
from crater_ray_mosaic.view import render

Paint = Callable[..., Path]
ACROSS = Pose(2.0, 0.0, 200)
LARGE = Rendering(size=1024)  # so many pixels that GDAL would read a VRT's tiles in threads of its own


def waves(lat: Any, lon: Any) -> Any:
    return 120 + 60 * np.sin(np.radians(20 * lon)) * np.cos(np.radians(17 * lat))


def vrt(folder: Path, name: str, *tiles: str, width: int = 1000, height: int = 2000) -> Path:
    """Tiles side by side from 10 degrees west and north, each `width` columns of 0.01 degrees."""
    wkt = (
        'GEOGCS["Moon",DATUM["D_Moon",SPHEROID["Moon",1737400,0]],PRIMEM["R",0],'
        'UNIT["degree",0.0174532925199433]]'
    )
    sources = "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="1">{tile}</SourceFilename><SourceBand>1</SourceBand>'
        f'<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>'
        f'<DstRect xOff="{number * width}" yOff="0" xSize="{width}" ySize="{height}"/></SimpleSource>'
        for number, tile in enumerate(tiles)
    )
    path = folder / name
    path.write_text(
        f'<VRTDataset rasterXSize="{len(tiles) * width}" rasterYSize="{height}"><SRS>{wkt}</SRS>'
        "<GeoTransform>-10,0.01,0,10,0,-0.01</GeoTransform>"
        f'<VRTRasterBand dataType="Byte" band="1">{sources}</VRTRasterBand></VRTDataset>'
    )
    return path


@pytest.fixture
def east(paint: Paint) -> Path:
    return paint("east.tif", waves, 0, 10, 0.01, 1000, 2000, dtype="uint8", tiled=True, compress="deflate")


def fails(raster: Raster, pose: Pose, name: str, how: Rendering = LARGE) -> None:
    """Each time, in this thread and in others."""

    def asked(_: int) -> str:
        with pytest.raises(UnreadableRaster) as caught:
            render(raster, pose, how)
        return caught.value.message

    with ThreadPoolExecutor(3) as pool:
        messages = [asked(0), asked(1), *pool.map(asked, range(6))]
    assert all(name in message and "\n" not in message for message in messages), messages


def test_a_missing_tile_is_an_error_each_time(east: Path) -> None:
    folder = east.parent
    fails(Raster(vrt(folder, "m.vrt", "gone.tif", "east.tif")), ACROSS, "gone.tif")
    beside = Raster(folder / "m.vrt")
    assert render(beside, Pose(0.0, 5.0, 100), Rendering()).std() > 10  # views of the other tile are whole


def test_a_missing_tile_below_two_virtual_rasters(east: Path) -> None:
    folder = east.parent
    vrt(folder, "inner.vrt", "west.tif", "east.tif")
    raster = Raster(vrt(folder, "outer.vrt", "inner.vrt", width=2000))
    fails(raster, ACROSS, "west.tif")
    assert render(raster, Pose(0.0, 5.0, 100), Rendering()).std() > 10
    shutil.copy(east, folder / "west.tif")
    whole = render(raster, ACROSS, LARGE)
    assert whole.min() > 40
    (folder / "west.tif").unlink()  # while a job runs
    fails(raster, ACROSS, "west.tif")


def test_a_tile_that_comes_back_is_read(east: Path) -> None:
    raster = Raster(vrt(east.parent, "m.vrt", "west.tif", "east.tif"))
    fails(raster, ACROSS, "west.tif")
    shutil.copy(east, east.parent / "west.tif")
    with ThreadPoolExecutor(1) as pool:
        seen = [render(raster, ACROSS, LARGE), pool.submit(render, raster, ACROSS, LARGE).result()]
    assert np.array_equal(*seen)
    assert seen[0].min() > 40


@pytest.mark.parametrize("damage", ["truncated", "corrupt"])
def test_a_damaged_tile_is_an_error_each_time(east: Path, damage: str) -> None:
    data = bytearray(east.read_bytes())
    half = len(data) // 2
    data[half:] = b"" if damage == "truncated" else b"\xaa" * (len(data) - half)
    (east.parent / "west.tif").write_bytes(bytes(data))
    # the first half of the file holds the directory and the northern tiles
    fails(Raster(vrt(east.parent, "m.vrt", "west.tif", "east.tif")), Pose(-5.0, -3.0, 100), "west.tif")


@pytest.mark.parametrize(("driver", "name"), [("JPEG", "x.jpg"), ("ENVI", "x.dat"), ("PNG", "x.png")])
def test_a_file_cut_short_is_an_error_each_time(paint: Paint, driver: str, name: str) -> None:
    whole = paint("whole.tif", waves, -10, 10, 0.05, 400, 400, dtype="uint8")
    path = whole.parent / name
    with rasterio.open(whole) as file, rasterio.open(path, "w", **{**file.profile, "driver": driver}) as out:
        out.write(file.read())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    options: dict[str, Any] = {"radius_km": 1737.4}

    def asked() -> Any:
        return render(Raster(path, **options), Pose(-5.0, 0.0, 100), Rendering())

    for _ in range(2):
        with pytest.raises(UnreadableRaster, match=name):
            asked()


def test_mosaic_bench_says_it_in_one_line(east: Path, catalogue: Callable[..., Path]) -> None:
    raster = vrt(east.parent, "m.vrt", "gone.tif", "east.tif")
    craters = catalogue([("a", 0.0, 0.0, 60.0), ("b", 3.0, 5.0, 60.0)])
    out = east.parent / "bench"
    arguments = [
        "mosaic-bench",
        "--raster",
        raster,
        "--catalogue",
        craters,
        "--preset",
        "hkpolyu",
        "--out",
        out,
    ]
    result = CliRunner().invoke(_command(), [str(one) for one in arguments])
    assert result.exit_code == 2
    assert result.output.strip().splitlines()[-1].startswith("Error: cannot read m.vrt:")
    assert "gone.tif" in result.output
    assert "fault of" not in result.output


def _command() -> Any:
    import click

    @click.command(context_settings={"ignore_unknown_options": True})
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def run(arguments: tuple[str, ...]) -> None:
        main(arguments)

    return run


def test_the_error_survives_the_way_from_a_worker() -> None:
    back = pickle.loads(pickle.dumps(UnreadableRaster("cannot read a.tif: gone")))
    assert isinstance(back, UnreadableRaster | OSError)
    assert back.message == str(back) == "cannot read a.tif: gone"
    assert back.exit_code == 2


def test_a_tile_replaced_by_one_of_its_size_is_another_raster(tmp_path: Path) -> None:
    (tmp_path / "m.vrt").write_text("<VRTDataset/>")
    (tmp_path / "a.tif").write_bytes(bytes(range(256)) * 40)
    before = fingerprint(tmp_path / "m.vrt", [tmp_path / "a.tif"])
    (tmp_path / "a.tif").write_bytes(bytes(range(255, -1, -1)) * 40)
    assert fingerprint(tmp_path / "m.vrt", [tmp_path / "a.tif"]) != before
