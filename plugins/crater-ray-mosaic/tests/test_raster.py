"""Values at latitude and longitude are the raster's, whatever its extent, type, seam and pyramid."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC

from crater_ray.errors import ReaderError
from crater_ray_mosaic.grid import orthographic
from crater_ray_mosaic.pose import Pose
from crater_ray_mosaic.raster import Raster

Paint = Callable[..., Path]


def smooth(lat: Any, lon: Any) -> Any:
    """Periodic in longitude, with no other symmetry."""
    return 100 * np.sin(np.radians(2 * lon + 30)) * np.cos(np.radians(lat)) + lat


def places(pose: Pose, size: int, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Latitude and longitude of each pixel by turning vectors: slow, obvious, another formula."""
    phi, lam = math.radians(pose.lat), math.radians(pose.lon)
    out = np.array([math.cos(phi) * math.cos(lam), math.cos(phi) * math.sin(lam), math.sin(phi)])
    east = np.array([-math.sin(lam), math.cos(lam), 0.0])
    north = np.cross(out, east)
    turn = math.radians(pose.rotation)
    right, up = east * math.cos(turn) - north * math.sin(turn), east * math.sin(turn) + north * math.cos(turn)
    lat, lon = np.empty((size, size)), np.empty((size, size))
    for row in range(size):
        for column in range(size):
            x = (column + 0.5 - size / 2) * 2 * pose.half_width_km / size / radius
            y = (size / 2 - row - 0.5) * 2 * pose.half_width_km / size / radius
            at = right * x + up * y + out * math.sqrt(1 - x * x - y * y)
            lat[row, column] = math.degrees(math.asin(at[2]))
            lon[row, column] = math.degrees(math.atan2(at[1], at[0]))
    return lat, lon


def sampled(raster: Raster, pose: Pose, size: int) -> np.ndarray:
    lats, east = orthographic(pose, size, raster.frame.radius_km)
    return raster.sample(pose.lon, lats, east, 2 * pose.half_width_km / size)[0]


@pytest.mark.parametrize(
    "pose",
    [
        Pose(0.0, 10.0, 100),
        Pose(60.0, -45.0, 150),
        Pose(-30.0, 180.0, 200),
        Pose(20.0, -179.9, 300),
        Pose(89.5, 33.0, 120),
        Pose(-90.0, 0.0, 200),
        Pose(45.0, 100.0, 150, rotation=37.0),
        Pose(10.0, 0.0, 900),
    ],
)
@pytest.mark.parametrize("west", [-180.0, 0.0])
def test_values_are_those_of_the_place(paint: Paint, pose: Pose, west: float) -> None:
    raster = Raster(paint("global.tif", smooth, west))
    lat, lon = places(pose, 24, raster.frame.radius_km)
    found = sampled(raster, pose, 24)
    edge = np.abs(lat) > 89.5  # beyond the last row's centres nothing is left to interpolate between
    assert np.isfinite(found).all()
    assert np.abs(found - smooth(lat, lon))[~edge].max() < 0.25


def test_metres_and_central_meridian(paint: Paint) -> None:
    metres = math.radians(1) * 1737400
    plain = Raster(paint("degrees.tif", smooth))
    crs = "+proj=eqc +lat_ts=0 +lon_0=0 +x_0=0 +y_0=0 +R=1737400 +units=m +no_defs"
    projected = Raster(paint("metres.tif", smooth, crs=crs, metres=metres))
    pose = Pose(33.0, -178.0, 180)
    assert projected.frame.radius_km == 1737.4
    np.testing.assert_allclose(sampled(projected, pose, 32), sampled(plain, pose, 32), atol=1e-3)
    shifted = paint(
        "middle180.tif",
        lambda lat, lon: smooth(lat, lon + 180),
        crs=crs.replace("lon_0=0", "lon_0=180"),
        metres=metres,
    )
    np.testing.assert_allclose(sampled(Raster(shifted), pose, 32), sampled(plain, pose, 32), atol=1e-3)


def test_standard_parallel_stretches_longitude_alone(paint: Paint) -> None:
    metres = math.radians(1) * 1737400
    crs = "+proj=eqc +lat_ts=60 +lon_0=0 +x_0=0 +y_0=0 +R=1737400 +units=m +no_defs"
    frame = Raster(paint("lat_ts.tif", smooth, -20, 10, 0.5, 40, 40, crs=crs, metres=metres)).frame
    assert frame.step_lat == pytest.approx(0.5)
    assert frame.step_lon == pytest.approx(1.0)
    assert frame.west == pytest.approx(-40)


def test_views_across_the_seam_of_a_region(paint: Paint) -> None:
    region = Raster(paint("region.tif", smooth, 170, 10, 0.25, 80, 80))  # 170..190
    whole = Raster(paint("global.tif", smooth, step=0.25, width=1440, height=720))
    for lon in (179.5, -179.5, 180.0):
        pose = Pose(0.0, lon, 120)
        np.testing.assert_allclose(sampled(region, pose, 32), sampled(whole, pose, 32), atol=1e-2)


@pytest.mark.parametrize("west", [-180.0, 0.0, -180.07])
@pytest.mark.parametrize("columns", [-0.99, -0.54, -0.456, -0.2, 0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("half_width", [60.0, 700.0])  # as stored, and averaged down
def test_a_whole_turn_of_a_fraction_of_a_column(
    paint: Paint, west: float, columns: float, half_width: float
) -> None:
    """As Mars's HRSC-MOLA blend and gdalwarp's rasters have it: part of a column is missing or repeated."""
    width = 1800
    step = 360 / (width - columns)  # `columns` are repeated, or missing where below 0
    raster = Raster(paint("turn.tif", smooth, west, 90.0, step, width, round(180 / step)))
    assert raster.frame.wraps
    for lon in (west, west + 0.4 * step, west - 0.7 * step, west + 2.0):
        assert raster.holds(0.0, lon)
        pose = Pose(10.0, lon, half_width)
        lat, lons = places(pose, 32, raster.frame.radius_km)
        wrong = sampled(raster, pose, 32) - smooth(lat, lons)
        # 100 grey levels a radian: a shift of a tenth of a pixel (.2°) would be .07
        assert np.abs(wrong).max() < (0.01 if half_width < 100 else 0.35)
    assert not Raster(paint("gap.tif", smooth, west, 90.0, step, width - 2, round(180 / step))).frame.wraps


def test_outside_is_told_from_nodata(paint: Paint) -> None:
    def holes(lat: Any, lon: Any) -> Any:
        return np.where((lat > 5) & (lon < 5), -9999.0, 1.0)

    raster = Raster(paint("region.tif", holes, -10, 10, 0.25, 80, 80, nodata=-9999.0))
    pose = Pose(0.0, 10.0, 300)  # its eastern half has left the raster
    lats, east = orthographic(pose, 40, raster.frame.radius_km)
    values, outside = raster.sample(pose.lon, lats, east, 2 * pose.half_width_km / 40)
    assert outside[:, 21:].all()
    assert not outside[:, :19].any()
    assert np.isnan(values[outside]).all()
    assert np.isnan(values[2:10, 2:6]).all()  # north-west: nodata
    assert np.isfinite(values[24:, 2:18]).all()


@pytest.mark.parametrize(
    ("dtype", "nodata", "hole"),
    [
        ("int16", -32768, -32768),
        ("uint16", 0, 0),
        ("uint8", 0, 0),
        ("float32", -3.4028226550889045e38, -3.4e38),
        ("float32", None, np.nan),
        ("float32", np.nan, np.nan),
        ("float64", None, np.inf),
        ("int32", -1, -1),
    ],
)
def test_nodata_of_every_type(paint: Paint, dtype: str, nodata: float | None, hole: float) -> None:
    values = np.full((80, 80), 7.0)
    values[:, 40:] = nodata if nodata is not None and hole == -3.4e38 else hole
    raster = Raster(paint("holes.tif", values, -10, 10, 0.25, 80, 80, dtype=dtype, nodata=nodata))
    for half_width in (60, 290):  # as stored, and averaged down
        found = sampled(raster, Pose(0.0, 0.0, half_width), 20)
        assert np.isnan(found[:, 12:]).all()
        np.testing.assert_array_equal(found[:, :8], 7.0)


def test_nodata_by_hand_and_masks(paint: Paint, tmp_path: Path) -> None:
    values = np.full((80, 80), 7.0)
    values[:, 40:] = 255
    path = paint("byte.tif", values, -10, 10, 0.25, 80, 80, dtype="uint8")
    assert np.isnan(sampled(Raster(path, nodata=255), Pose(0.0, 0.0, 250), 20)[:, 12:]).all()
    mask = np.where(values == 255, 0, 255)
    with_alpha = paint(
        "alpha.tif", np.stack([values, mask]), -10, 10, 0.25, 80, 80, dtype="uint8", alpha="YES"
    )
    found = sampled(Raster(with_alpha), Pose(0.0, 0.0, 60), 20)
    assert np.isnan(found[:, 12:]).all()
    np.testing.assert_array_equal(found[:, :8], 7.0)


def test_wide_views_are_averaged_not_picked(paint: Paint) -> None:
    noise = np.random.default_rng(0).normal(100, 30, (400, 400))
    raster = Raster(paint("noise.tif", noise, -10, 10, 0.05, 400, 400))
    found = sampled(raster, Pose(0.0, 0.0, 290), 20)  # 19 pixels by 19 to one of the view
    assert abs(found.mean() - 100) < 1
    assert found.std() < 4  # 30 / 19; picked values would keep 30


def test_overviews_are_used_and_agree(paint: Paint) -> None:
    plain = paint("plain.tif", smooth)
    other = paint("pyramid.tif", smooth)
    with rasterio.open(other, "r+") as file:
        file.build_overviews([2, 4, 8], rasterio.enums.Resampling.average)
    pose = Pose(12.0, 179.0, 900)
    np.testing.assert_allclose(sampled(Raster(other), pose, 30), sampled(Raster(plain), pose, 30), atol=1.0)


def test_a_virtual_raster_over_two_tiles(paint: Paint, tmp_path: Path) -> None:
    west = paint("west.tif", smooth, -10, 10, 0.25, 40, 80)
    paint("east.tif", smooth, 0, 10, 0.25, 40, 80)
    whole = paint("whole.tif", smooth, -10, 10, 0.25, 80, 80)
    with rasterio.open(west) as file:
        wkt = file.crs.to_wkt().replace('"', "&quot;")
    source = (
        '<SimpleSource><SourceFilename relativeToVRT="1">{0}.tif</SourceFilename><SourceBand>1</SourceBand>'
        '<SrcRect xOff="0" yOff="0" xSize="40" ySize="80"/>'
        '<DstRect xOff="{1}" yOff="0" xSize="40" ySize="80"/></SimpleSource>'
    )
    vrt = tmp_path / "both.vrt"
    vrt.write_text(
        f'<VRTDataset rasterXSize="80" rasterYSize="80"><SRS>{wkt}</SRS>'
        "<GeoTransform>-10, 0.25, 0, 10, 0, -0.25</GeoTransform>"
        f'<VRTRasterBand dataType="Float32" band="1">{source.format("west", 0)}{source.format("east", 40)}'
        "</VRTRasterBand></VRTDataset>"
    )
    for pose in (Pose(0.0, 0.0, 100), Pose(2.0, 0.5, 250)):
        np.testing.assert_allclose(
            sampled(Raster(vrt), pose, 24), sampled(Raster(whole), pose, 24), atol=1e-4
        )
    assert {Path(name).name for name in Raster(vrt).files()} >= {"west.tif", "east.tif"}


def test_a_plain_image_with_its_extent(tmp_path: Path) -> None:
    picture = np.zeros((90, 180, 3), np.uint8)
    picture[:45, :, 0] = 200  # the north is red
    picture[:, 90:, 1] = 100  # the east green
    path = tmp_path / "map.png"
    Image.fromarray(picture).save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rasterio's own remark about files without a place
        for missing in ({}, {"radius_km": 1737.4}):
            with pytest.raises(ReaderError, match="extent"):
                Raster(path, **missing)
    with pytest.raises(ReaderError, match="radius_km"):
        Raster(path, extent=(-180, -90, 180, 90))
    raster = Raster(path, extent=(-180, -90, 180, 90), radius_km=1737.4)
    found = sampled(raster, Pose(45.0, 90.0, 200), 16)
    assert found.shape == (16, 16, 3)
    np.testing.assert_array_equal(found[8, 8], (200, 100, 0))
    np.testing.assert_array_equal(sampled(raster, Pose(-45.0, -90.0, 200), 16)[8, 8], (0, 0, 0))
    assert (
        sampled(
            Raster(path, extent=(-180, -90, 180, 90), radius_km=1.0, bands=(2,)), Pose(0, 90, 0.1), 4
        ).ndim
        == 2
    )


def test_what_cannot_be_used_is_refused(paint: Paint, tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match="does not exist"):
        Raster(tmp_path / "none.tif")
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(ReaderError, match="cannot read"):
        Raster(tmp_path / "text.tif")
    with pytest.raises(ReaderError, match="beyond the globe"):
        Raster(paint("wrong.tif", smooth, crs=None, metres=1000), radius_km=1)
    with pytest.raises(ReaderError, match=r"bands \[4\]"):
        Raster(paint("one.tif", smooth), bands=(4,))


@pytest.mark.parametrize("by", ["ground control points", "camera model"])
def test_a_raster_that_lies_by_points_or_a_camera_is_told_to_be_rectified(tmp_path: Path, by: str) -> None:
    path = tmp_path / "raw.tif"
    corners = [(0, 0, 10, 20), (0, 9, 11, 20), (9, 0, 10, 19), (9, 9, 11, 19)]
    points = [GroundControlPoint(row, col, x, y) for row, col, x, y in corners]
    ones = [1.0] + [0.0] * 19
    shape = {f"{axis}_{part}_coeff": ones for axis in ("line", "samp") for part in ("num", "den")}
    names = ("height", "lat", "line", "long", "samp")
    camera = RPC(
        **shape, **{f"{name}_off": 5.0 for name in names}, **{f"{name}_scale": 1.0 for name in names}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", "GTiff", width=10, height=10, count=1, dtype="uint8") as file:
            file.write(np.ones((1, 10, 10), np.uint8))
            if by == "camera model":
                file.rpcs = camera
            else:
                file.gcps = points, CRS.from_string("+proj=longlat +R=1737400")
    with pytest.raises(ReaderError, match=f"but by .*{by}.*: rectify it with gdalwarp"):
        Raster(path, body="moon")
