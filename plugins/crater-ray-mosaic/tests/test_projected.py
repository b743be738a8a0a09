"""Rasters of any projection: a view's pixels are those of its places, by pyproj point by point."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rasterio.transform import Affine

from crater_ray.errors import ReaderError
from crater_ray_mosaic.grid import orthographic
from crater_ray_mosaic.pose import Pose
from crater_ray_mosaic.raster import Raster

R = 1737400.0
ROUND = math.pi * R
MOON = f"+proj=longlat +R={R} +no_defs"
A, B = 3396190.0, 3376200.0
MARS = f"+proj=longlat +a={A} +b={B} +no_defs"


def hills(lat: Any, lon: Any) -> Any:
    """Smooth everywhere on the sphere, the poles and the antimeridian too."""
    phi, lam = np.radians(lat), np.radians(lon)
    x, y, z = np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)
    return 100 + 40 * (np.sin(8 * x + 1) + np.sin(8 * y + 2) + np.sin(8 * z))


def write(
    path: Path, crs: str, transform: Affine, width: int, height: int, places: str = MOON, what: Any = hills
) -> Path:
    """Painted at pixel centres by pyproj; 0 off the globe, which no nodata value tells."""
    column, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x = transform.a * column + transform.b * row + transform.c
    y = transform.d * column + transform.e * row + transform.f
    there = Transformer.from_crs(crs, places, always_xy=True)
    lon, lat = there.transform(x, y)
    if not any(name in crs for name in ("longlat", "eqc", "merc", "cea")):  # off the globe PROJ turns round
        again = there.transform(lon, lat, direction="INVERSE")
        step = math.sqrt(abs(transform.determinant))
        off = ~((np.abs(again[0] - x) < step) & (np.abs(again[1] - y) < step))
        lon, lat = np.where(off, np.nan, lon), np.where(off, np.nan, lat)
    on = np.isfinite(lon) & np.isfinite(lat)
    values = np.where(on, what(np.where(on, lat, 0.0), np.where(on, lon, 0.0)), 0.0)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=width,
        height=height,
        count=1,
        dtype="float32",
        crs=crs,
        transform=transform,
    ) as file:
        file.write(np.nan_to_num(values).astype(np.float32), 1)
    return path


def square(crs: str, side: float, pixels: int = 300, x: float = 0.0, y: float = 0.0) -> tuple[Any, ...]:
    step = 2 * side / pixels
    return crs, Affine(step, 0, x - side, 0, -step, y + side), pixels, pixels


def globe(crs: str, wide: float, high: float, step: float) -> tuple[Any, ...]:
    return crs, Affine(step, 0, -wide, 0, -step, high), math.ceil(2 * wide / step), math.ceil(2 * high / step)


def turned(degrees: float, step: float, x: float, y: float) -> Affine:
    return Affine.translation(x, y) @ Affine.rotation(degrees) @ Affine.scale(step, -step)


CASES: dict[str, tuple[tuple[Any, ...], list[tuple[float, float, float]]]] = {
    "polar stereographic": (
        square(f"+proj=stere +lat_0=-90 +R={R}", 1e6),
        [(-90, 0, 100), (-90, 77, 100), (-80, 180, 100), (-85, 30, 200), (-75, -179.9, 100)],
    ),
    "north, true at 70": (
        square(f"+proj=stere +lat_0=90 +lat_ts=70 +lon_0=45 +R={R}", 1e6),
        [(90, 0, 100), (75, 180, 150)],
    ),
    "sinusoidal": (
        globe(f"+proj=sinu +R={R}", ROUND, ROUND / 2, 12000),
        [(0, 10, 60), (40, -100, 150), (-70, 60, 100)],
    ),
    "Mercator": (
        globe(f"+proj=merc +R={R}", ROUND, ROUND, 12000),
        [(0, 10, 60), (40, -100, 150), (0, 180, 100), (60, 179.9, 150)],
    ),
    "Mercator about 180": (
        globe(f"+proj=merc +lon_0=180 +R={R}", ROUND - 1234, ROUND, 12000),
        [(0, 0, 100), (60, 359.9, 150), (10, 180, 100)],
    ),
    "Lambert conformal": (
        square(f"+proj=lcc +lat_1=30 +lat_2=60 +lat_0=45 +lon_0=170 +R={R}", 1e6),
        [(45, 170, 150), (50, -175, 100), (30, 180, 150)],
    ),
    "Lambert equal-area": (
        square(f"+proj=laea +lat_0=0 +lon_0=90 +R={R}", 2e6, x=3e4, y=-2e4),
        [(0, 90, 150), (50, 60, 100), (-30, 100, 150)],
    ),
    "orthographic": (
        square(f"+proj=ortho +lat_0=-20 +lon_0=30 +R={R}", 1.8e6),
        [(-20, 30, 150), (10, 60, 150)],
    ),
    "oblique Mercator": (
        square(f"+proj=omerc +lat_0=20 +lonc=30 +alpha=40 +gamma=0 +R={R}", 1e6),
        [(20, 30, 150), (10, 20, 100)],
    ),
    "transverse Mercator in km": (
        (f"+proj=tmerc +lon_0=15 +R={R} +units=km", Affine(6, 0, -900, 0, -6, 900), 300, 300),
        [(5, 20, 150)],
    ),
    "equal-area cylindrical": (
        globe(
            f"+proj=cea +lat_ts=30 +R={R}", ROUND * math.cos(math.pi / 6), R / math.cos(math.pi / 6), 12000
        ),
        [(0, 180, 100), (20, 40, 100)],
    ),
    "equirectangular true at 40, about 180": (
        globe(
            f"+proj=eqc +lat_ts=40 +lon_0=180 +R={R}", ROUND * math.cos(math.radians(40)), ROUND / 2, 12000
        ),
        [(0, 10, 60), (0, 0, 100), (60, 180, 150)],
    ),
    "stereographic, turned by 30": (
        (f"+proj=stere +lat_0=90 +R={R}", turned(30, 6000, -1.2e6, 3.3e5), 300, 300),
        [(90, 0, 100), (80, 180, 150)],
    ),
    "degrees, turned by 30": ((MOON, turned(30, 0.2, 159.5, 5.5), 150, 150), [(0, 180, 40), (2, -177, 40)]),
    "south up": ((MOON, Affine(0.4, 0, -180, 0, 0.4, -90), 900, 450), [(0, 10, 100), (40, 180, 100)]),
    "columns west": ((MOON, Affine(-0.4, 0, 180, 0, -0.4, 90), 900, 450), [(0, 10, 100), (40, 180, 100)]),
    "prime meridian at 30": (
        (f"+proj=longlat +R={R} +pm=30", Affine(0.4, 0, -180, 0, -0.4, 90), 900, 450),
        [(0, 10, 100), (40, 180, 100), (0, -150, 100)],
    ),
    "sinusoidal, prime meridian at 90": (
        globe(f"+proj=sinu +pm=90 +R={R}", ROUND, ROUND / 2, 12000),
        [(0, 90, 100), (40, 100, 100)],
    ),
}


def wrong_by(raster: Raster, pose: Pose, there: Transformer, size: int = 40, flat: float = 0.0) -> float:
    """Raster pixels between where a view's pixels are taken from and where pyproj says they are, at most.

    Slow and obvious: a projection of the view, and one point after the other.
    """
    rows, columns = _pixels(raster, pose, size)
    view = f"+R={R}" if not flat else f"+a={A} +b={B}"
    lat = math.degrees(math.atan(math.tan(math.radians(pose.lat)) / (1 - flat) ** 2))
    ground = Transformer.from_crs(
        f"+proj=ortho {view} +lat_0={lat} +lon_0={pose.lon} +type=crs", there.source_crs, always_xy=True
    )
    with rasterio.open(raster.path) as file:
        back, middle = ~file.transform, (file.transform @ (file.width / 2, file.height / 2))[0]
    away, half = 0.0, 1000 * pose.half_width_km
    for row in range(0, size, 6):
        for column in range(0, size, 6):
            right, up = (column + 0.5) * 2 * half / size - half, half - (row + 0.5) * 2 * half / size
            lon, lat = ground.transform(right, up)
            x, y = there.transform(lon, lat)
            if there.target_crs.is_geographic:
                x -= round((x - middle) / 360) * 360
            at = back @ (x, y)
            beside = columns[row, column] + 0.5 - at[0]
            if math.isfinite(raster.frame.turn):
                beside -= round(beside / raster.frame.turn) * raster.frame.turn
            away = max(away, abs(rows[row, column] + 0.5 - at[1]), abs(beside))
    return away


def _pixels(raster: Raster, pose: Pose, size: int) -> Any:
    frame = raster.frame
    return frame.pixels(*_rearranged(orthographic(pose, size, frame.radius_km, 0, frame.flattening), pose))


def _rearranged(grid: Any, pose: Pose) -> Any:
    return grid[0], pose.lon, grid[1]


def sampled(raster: Raster, pose: Pose, size: int = 40) -> tuple[Any, Any]:
    """A view's values, and what hills() has at its places."""
    lats, east = orthographic(pose, size, raster.frame.radius_km, 0, raster.frame.flattening)
    values, _ = raster.sample(pose.lon, lats, east, 2 * pose.half_width_km / size)
    return values, hills(lats, pose.lon + east)


@pytest.mark.parametrize("name", CASES)
def test_every_pixel_is_where_pyproj_has_it(name: str, tmp_path: Path) -> None:
    made, poses = CASES[name]
    raster = Raster(write(tmp_path / "map.tif", *made))
    there = Transformer.from_crs(MOON, made[0], always_xy=True)
    for pose in (Pose(*at) for at in poses):
        assert raster.holds(pose.lat, pose.lon)
        assert wrong_by(raster, pose, there) < 0.05
        values, right = sampled(raster, pose)
        assert np.abs(values - right).max() < 0.8  # averaged and bilinear; a pixel aside would be 2 and more


@pytest.mark.parametrize("projection", ["sinu", "moll"])
@pytest.mark.parametrize(("lat", "lon"), [(0.0, 180.0), (30.0, 179.9), (-50.0, -179.5), (60.0, 180.0)])
@pytest.mark.parametrize("half_width", [200, 900])  # as stored, and averaged down
def test_where_a_projection_is_cut(
    projection: str, lat: float, lon: float, half_width: float, tmp_path: Path
) -> None:
    """Half of the view lies on the map's other edge, and what is off the globe is no data though it is 0."""
    wide = 1.0 if projection == "sinu" else 0.9003163
    raster = Raster(
        write(
            tmp_path / "map.tif",
            *globe(f"+proj={projection} +R={R}", wide * ROUND, wide * ROUND / 2, 12000),
        )
    )
    assert raster.holds(lat, lon)
    values, right = sampled(raster, Pose(lat, lon, half_width))
    assert np.isfinite(values).all()
    wrong = np.abs(values - right)
    assert wrong.max() < 6.0  # two of the map's pixels at its edge, where there is nothing beside
    assert np.quantile(wrong, 0.9) < 1.5


def test_beyond_the_map_there_is_nothing(tmp_path: Path) -> None:
    made, _ = CASES["polar stereographic"]
    raster = Raster(write(tmp_path / "south.tif", *made))
    assert not raster.holds(80.0, 0.0)
    assert not raster.holds(0.0, 0.0)
    pose = Pose(-57.5, 0.0, 300)  # the map ends at y = 1e6, 57° south
    lats, east = orthographic(pose, 40, raster.frame.radius_km)
    values, outside = raster.sample(pose.lon, lats, east, 15)
    assert (np.isnan(values) == outside).all()
    assert 0.3 < outside.mean() < 0.7
    disc = Raster(write(tmp_path / "disc.tif", *CASES["orthographic"][0]))
    assert not disc.holds(20.0, -150.0)  # on the far side
    assert not disc.frame.holds(np.array([20.0, 20.0]), np.array([-150.0, 30.0])).all()


def test_a_large_view_is_averaged(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(100, 30, (300, 300))
    crs, transform, *_ = CASES["polar stereographic"][0]
    raster = Raster(write(tmp_path / "noise.tif", crs, transform, 300, 300, what=lambda a, b: noise))
    values, _ = sampled(raster, Pose(-90.0, 0.0, 600), 30)  # 6 pixels by 6 to one of the view
    assert abs(values.mean() - 100) < 1
    assert values.std() < 9


def test_a_pixel_is_as_large_as_it_is_on_the_ground(tmp_path: Path) -> None:
    frame = Raster(write(tmp_path / "merc.tif", *globe(f"+proj=merc +R={R}", ROUND, ROUND, 16000))).frame
    sizes = frame.kilometres_at(np.array([0.0, 60.0, -60.0]), np.array([10.0, 50.0, -170.0]))
    np.testing.assert_allclose(sizes, [16.0, 8.0, 8.0], rtol=1e-3)
    assert frame.kilometres == pytest.approx(16.0, rel=1e-2)


@pytest.mark.parametrize(
    ("crs", "made"),
    [
        (f"+proj=stere +lat_0=90 +a={A} +b={B}", square(f"+proj=stere +lat_0=90 +a={A} +b={B}", 2e6)),
        (MARS, (MARS, Affine(0.3, 0, -180, 0, -0.3, 90), 1200, 600)),
        (
            f"+proj=merc +a={A} +b={B}",
            globe(f"+proj=merc +a={A} +b={B}", math.pi * A, math.pi * A, 18000),
        ),
    ],
)
def test_an_ellipsoids_latitudes_are_planetographic(crs: str, made: Any, tmp_path: Path) -> None:
    """A catalogue's 70° is planetocentric: .21° from the 70° of such a map, 13 km on Mars."""
    raster = Raster(write(tmp_path / "mars.tif", *made, places=MARS))
    flat = 1 - B / A
    assert raster.frame.flattening == pytest.approx(flat)
    there = Transformer.from_crs(MARS, crs, always_xy=True)
    for pose in (Pose(70.0, 30.0, 100), Pose(75.0, 180.0, 200)):
        assert wrong_by(raster, pose, there, flat=flat) < 0.05
        lats, east = orthographic(pose, 40, raster.frame.radius_km, 0, flat)
        values, _ = raster.sample(pose.lon, lats, east, pose.half_width_km / 20)
        on_map = np.degrees(np.arctan(np.tan(np.radians(lats)) / (1 - flat) ** 2))
        assert np.abs(values - hills(on_map, pose.lon + east)).max() < 0.8


def test_the_same_bytes_from_many_threads(tmp_path: Path) -> None:
    raster = Raster(write(tmp_path / "south.tif", *CASES["polar stereographic"][0]))
    poses = [Pose(-90 + step, 40.0 * step, 80 + step) for step in range(12)]

    def look(pose: Pose) -> bytes:
        return bytes(sampled(raster, pose)[0].tobytes())

    once = [look(pose) for pose in poses]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(look, poses * 3)) == once * 3


def test_what_has_no_place_is_refused(tmp_path: Path) -> None:
    crs = f"+proj=ortho +lat_0=0 +R={R}"
    beyond = write(tmp_path / "beyond.tif", crs, Affine(1000, 0, 3e6, 0, -1000, 3e6), 100, 100)
    with pytest.raises(ReaderError, match="beyond the globe"):
        Raster(beyond)
    degrees = write(tmp_path / "degrees.tif", f"+proj=sinu +R={R}", Affine(1, 0, -180, 0, -1, 90), 360, 180)
    with pytest.raises(ReaderError, match="degrees of a globe"):
        Raster(degrees)
    assert Raster(degrees, crs=MOON).holds(45.0, 90.0)
