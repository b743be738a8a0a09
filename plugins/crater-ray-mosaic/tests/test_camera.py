"""Views as cameras take them: each effect against a slow twin, or a case whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

from crater_ray.errors import BadImage, ConfigError, ReaderError
from crater_ray.plugins import registry
from crater_ray_mosaic.camera.drawn import Camera, drawn
from crater_ray_mosaic.camera.oblique import oblique
from crater_ray_mosaic.camera.options import CameraOptions
from crater_ray_mosaic.camera.radiance import SUN_RADIUS, albedo, fractal, horizon, reflected, sunlit
from crater_ray_mosaic.camera.sensor import taken
from crater_ray_mosaic.mosaic import Mosaic
from crater_ray_mosaic.options import MosaicOptions, PlanetsOptions
from crater_ray_mosaic.pose import Pose, from_uri, to_uri
from crater_ray_mosaic.raster import Raster
from crater_ray_mosaic.rendering import Rendering
from crater_ray_mosaic.shade import lambert
from crater_ray_mosaic.view import render

Paint = Callable[..., Path]
OFF = dict.fromkeys(
    ("shadows", "albedo", "rays", "tilted", "blur", "uneven", "response", "noise", "grain", "lines", "jpeg"),
    0.0,
)


def hills(size: int = 40, seed: int = 0) -> NDArray[np.float32]:
    """Metres, of a spacing of 100 m."""
    rough = 60.0 * fractal(size, np.random.default_rng(seed))
    return np.asarray(gaussian_filter(rough, 1.5), np.float32)


@pytest.mark.parametrize("azimuth", [0.0, 90.0, 225.0, 300.0])
def test_the_horizon_is_that_of_a_slow_march(azimuth: float) -> None:
    height, spacing = hills(), 100.0
    a = math.radians(azimuth)
    slow = np.full(height.shape, -np.inf)
    size = len(height)
    for row in range(size):
        for column in range(size):
            for away in np.arange(1.0, 2.0 * size, 0.25):
                y, x = row - away * math.cos(a), column + away * math.sin(a)
                if not (0 <= y <= size - 1 and 0 <= x <= size - 1):
                    break
                i, j = min(int(y), size - 2), min(int(x), size - 2)
                p, q = y - i, x - j
                there = (1 - p) * ((1 - q) * height[i, j] + q * height[i, j + 1])
                there += p * ((1 - q) * height[i + 1, j] + q * height[i + 1, j + 1])
                slow[row, column] = max(slow[row, column], (there - height[row, column]) / (away * spacing))
    fast = horizon(height, spacing, azimuth)
    known = np.isfinite(slow) & np.isfinite(fast)
    assert known.mean() > 0.9
    assert np.abs(slow[known] - fast[known]).max() < 0.03
    assert np.ptp(slow[known]) > 0.3


@pytest.mark.parametrize("elevation", [10.0, 20.0, 40.0])
def test_a_wall_casts_a_shadow_of_its_height_over_the_tangent(elevation: float) -> None:
    height = np.zeros((100, 100), np.float32)
    height[:, 20:22] = 1000.0  # metres, a wall from north to south; the sun stands in the west
    light = sunlit(horizon(height, 200.0, 270.0), elevation)
    dark = light[50, 22:] < 0.5
    length = 1000.0 / math.tan(math.radians(elevation)) / 200.0
    assert dark.sum() == pytest.approx(length, abs=1.5)
    assert not dark[dark.sum() :].any()
    assert (light[50, :20] == 1.0).all()


def test_the_penumbra_is_the_share_of_a_disc() -> None:
    y, x = np.mgrid[-1:1:801j, -1:1:801j]
    disc = np.hypot(x, y) <= 1
    for cut in (-0.9, -0.3, 0.0, 0.5):
        tangent = np.float32(math.tan(math.radians(20.0 + cut * SUN_RADIUS)))
        share = float(sunlit(np.array([tangent]), 20.0)[0])
        assert share == pytest.approx((disc & (y > cut)).sum() / disc.sum(), abs=0.01)
    assert sunlit(np.array([-np.inf]), 20.0)[0] == 1.0
    assert sunlit(np.array([np.inf]), 20.0)[0] == 0.0


def test_the_laws_of_reflection_on_a_plane_and_on_slopes() -> None:
    flat = np.zeros((5, 5), np.float32)
    e = math.sin(math.radians(30.0))
    assert reflected(flat, 1.0, 200.0, 30.0, 0.0, "lambert") == pytest.approx(e)
    assert reflected(flat, 1.0, 200.0, 30.0, 0.0, "lommel_seeliger") == pytest.approx(e / (e + 1.0))
    mixed = (0.6 * 2.0 * e / (e + 1.0) + 0.4 * e) / 1.6
    assert reflected(flat, 1.0, 200.0, 30.0, 0.0, "lunar_lambert") == pytest.approx(mixed)
    t = math.cos(math.radians(40.0))
    assert reflected(flat, 1.0, 200.0, 30.0, 40.0, "lommel_seeliger") == pytest.approx(e / (e + t))
    np.testing.assert_allclose(
        reflected(hills(), 100.0, 70.0, 30.0, 0.0, "lambert"), lambert(hills(), 100.0, 70.0, 30.0), atol=1e-6
    )
    normal = np.array([-0.5, 0.25, 1.0]) / math.sqrt(1 + 0.25 + 0.0625)  # right, up, out
    slope = np.fromfunction(lambda y, x: 0.5 * x + 0.25 * y, (5, 5)).astype(np.float32)  # rows run down
    sun = np.array([0.0, math.cos(math.radians(50)), math.sin(math.radians(50))])  # in the north
    camera = np.array([0.0, -math.sin(math.radians(20)), math.cos(math.radians(20))])
    cosines = normal @ sun, normal @ camera
    found = reflected(slope, 1.0, 0.0, 50.0, 20.0, "lommel_seeliger")
    assert found == pytest.approx(cosines[0] / sum(cosines), rel=1e-5)


def test_a_tilted_camera_sees_a_plane_shorter_and_heights_displaced() -> None:
    size, tilt = 60, 40.0
    light = np.tile(np.arange(100.0, dtype=np.float32)[::-1, None], (1, 100))  # brighter behind
    seen, off = oblique(light, np.zeros((100, 100), np.float32), 1.0, tilt, size)
    assert not off.any()
    steps = seen[:-1, 30] - seen[1:, 30]
    assert steps == pytest.approx(1.0 / math.cos(math.radians(tilt)), rel=1e-3)  # foreshortened
    assert np.ptp(seen, axis=1).max() < 1e-3
    mark = np.zeros((100, 100), np.float32)
    mark[60, 50] = 1.0
    height = np.zeros((100, 100), np.float32)
    height[58:63, 48:53] = 8.0
    for relief, up in ((np.zeros_like(height), 0.0), (height, 8.0 * math.sin(math.radians(tilt)))):
        picture, _ = oblique(mark, relief, 1.0, tilt, size)
        row = float((picture.sum(1) * np.arange(size)).sum() / picture.sum())
        below = (60 - 49.5) * math.cos(math.radians(tilt)) - up
        assert row == pytest.approx((size - 1) / 2 + below, abs=0.6)


def test_what_stands_in_front_hides_what_lies_behind() -> None:
    light = np.zeros((80, 80), np.float32)
    light[30:34] = 1.0  # a bright stripe behind a wall
    height = np.zeros((80, 80), np.float32)
    assert oblique(light, height, 1.0, 45.0, 40)[0].max() == pytest.approx(1.0)
    height[36:38] = 10.0
    assert oblique(light, height, 1.0, 45.0, 40)[0].max() < 0.05


def test_ground_that_is_not_known_is_off() -> None:
    light = np.ones((60, 60), np.float32)
    height = np.zeros((60, 60), np.float32)
    height[:, :20] = np.nan
    _, off = oblique(light, height, 1.0, 20.0, 40)
    assert off[:, :10].all()
    assert not off[:, 12:].any()


def test_albedo_is_fractal_or_of_a_map() -> None:
    camera = Camera(3, albedo=0.3)
    made = albedo(64, camera)
    assert made is not None
    assert np.log(made).std() == pytest.approx(0.3, rel=0.01)
    np.testing.assert_array_equal(made, albedo(64, camera))
    chart = np.full((64, 64), 100.0, np.float32)
    chart[:, 32:] = 200.0
    of_map = albedo(64, Camera(3, albedo=0.2), chart)
    assert of_map is not None
    assert of_map[:, 40].mean() / of_map[:, 10].mean() == pytest.approx(2.0, rel=1e-3)
    assert albedo(64, Camera(3)) is None
    chart[:, :10] = np.nan
    with pytest.raises(BadImage, match="no data for 16% of the view"):
        albedo(64, Camera(3, albedo=0.2), chart)
    with pytest.raises(BadImage, match="a mean of -3 in the view"):
        albedo(64, Camera(3, albedo=0.2), np.full((64, 64), -3.0, np.float32))
    assert albedo(64, Camera(3, rays=True)).min() >= 1.0  # type: ignore[union-attr]


def picture(camera: Camera, light: NDArray[np.float32] | None = None) -> NDArray[np.uint8]:
    light = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1)) if light is None else light
    return taken(light, np.zeros(light.shape[:2], bool), camera)


def test_a_sensor_without_faults_is_a_stretch() -> None:
    plain = picture(Camera(1))
    assert plain.min() == 0
    assert plain.max() == 255
    assert np.abs(np.diff(plain[0].astype(int))).max() <= 5


def test_each_fault_of_the_sensor() -> None:
    plain = picture(Camera(1)).astype(float)
    step = np.zeros((64, 64), np.float32)
    step[:, 32:] = 1.0
    assert np.abs(np.diff(picture(Camera(1, blur=2.0), step).astype(float))).max() < 150
    darker = picture(Camera(1, vignetting=0.5), np.ones((64, 64), np.float32) + 1e-3 * step)
    assert darker[0, 0] < darker[32, 20]
    assert picture(Camera(1, gamma=2.0))[0, 32] == pytest.approx(255 * 0.25, abs=6)
    clipped = picture(Camera(1, black=0.1, white=0.2))[0]
    assert (clipped == 0).mean() == pytest.approx(0.105, abs=0.03)
    assert (clipped == 255).mean() == pytest.approx(0.205, abs=0.03)
    noisy = picture(Camera(1, noise=0.05)).astype(float) - plain
    assert noisy[:, 16:48].std() == pytest.approx(0.05 * 255, rel=0.1)
    grainy = picture(Camera(1, grain=0.05)).astype(float) - plain
    near = np.corrcoef(grainy[:, 20:43].ravel(), grainy[:, 21:44].ravel())[0, 1]
    assert near > 0.3  # of more than a pixel's size
    flat = picture(Camera(1, contrast=0.5, level=1.0))
    assert (flat.min(), flat.max()) == (128, 255)
    for fault in ({"dropped": True}, {"strips": True}, {"jpeg": 20}):
        assert not np.array_equal(picture(Camera(1, **fault)), plain)


def test_beyond_a_frame_is_black() -> None:
    invalid = np.zeros((32, 32), bool)
    invalid[:, :8] = True
    light = np.tile(np.linspace(1, 2, 32, dtype=np.float32), (32, 1))
    light[invalid] = np.nan
    assert (taken(light, invalid, Camera(1, contrast=0.5, level=1.0))[:, :8] == 0).all()


def test_a_share_that_changes_moves_no_other_effect() -> None:
    some = drawn(CameraOptions(noise=1.0, tilted=1.0), 7)
    less = drawn(CameraOptions(noise=1.0, tilted=0.0), 7)
    assert some.tilt > 0
    assert less.tilt == 0
    assert (some.noise, some.gamma, some.level) == (less.noise, less.gamma, less.level)
    assert drawn(CameraOptions(**OFF), 7).noise == 0
    shares = [drawn(CameraOptions(shadows=0.3), seed).shadows for seed in range(400)]
    assert np.mean(shares) == pytest.approx(0.3, abs=0.08)


def test_a_pose_names_its_camera() -> None:
    pose = Pose(1.0, 2.0, 30.0, 270.0, 30.0, camera=4294967295)
    assert from_uri(to_uri(pose)) == pose
    assert "camera" not in to_uri(Pose(1.0, 2.0, 30.0))
    for wrong in ("-1", "1.5", "1e300"):
        with pytest.raises(BadImage, match="camera is not a whole number"):
            from_uri(f"lat=0&lon=0&half_width_km=1&camera={wrong}")


@pytest.fixture
def bowl(paint: Paint) -> Path:
    """Heights of a crater of 30 km about (10, 20)."""

    def height(lat: Any, lon: Any) -> Any:
        away = 30.3 * np.hypot(lat - 10.0, (lon - 20.0) * math.cos(math.radians(10.0)))
        return np.where(away < 15, 3000 * (away / 15) ** 2 - 2500, 500 * np.exp((15 - away) / 8))

    return paint("bowl.tif", height, 16.0, 14.0, 0.01, 800, 800, dtype="float32")


def test_a_plain_camera_sees_what_no_camera_sees(bowl: Path) -> None:
    raster = Raster(bowl)
    pose = Pose(10.0, 20.0, 30.0, 200.0, 40.0)
    camera = CameraOptions(**OFF, photometry=("lambert",), contrast=(1.0, 1.0))
    plain = render(raster, pose, Rendering("dem", 112)).astype(float)
    seen = render(raster, Pose(10.0, 20.0, 30.0, 200.0, 40.0, camera=5), Rendering("dem", 112, camera=camera))
    assert np.corrcoef(plain.ravel(), seen.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
def test_a_camera_looks_from_its_side(bowl: Path, quarter: int) -> None:
    """From any side the crater is foreshortened along the line of sight, and light comes from one place."""
    tilted = CameraOptions(
        **{**OFF, "tilted": 1.0}, tilt=(45.0, 45.0), photometry=("lambert",), contrast=(1, 1)
    )
    seed = next(n for n in range(99) if drawn(tilted, n).quarter == quarter)
    seen = render(
        Raster(bowl), Pose(10.0, 20.0, 30.0, 90.0, 30.0, camera=seed), Rendering("dem", 112, camera=tilted)
    ).astype(float)
    facing = CameraOptions(**OFF, photometry=("lambert",), contrast=(1, 1))
    plain = Image.fromarray(
        render(
            Raster(bowl), Pose(10.0, 20.0, 30.0, 90.0, 30.0, camera=1), Rendering("dem", 112, camera=facing)
        )
    )
    short = round(112 * math.cos(math.radians(45.0)))
    alike = []
    for shape in ((112, short), (short, 112)):  # width, height
        squeezed = np.asarray(plain.resize(shape, Image.Resampling.BILINEAR), float)
        high, wide = ((112 - side) // 2 for side in squeezed.shape)
        part = seen[high : high + squeezed.shape[0], wide : wide + squeezed.shape[1]]
        alike.append(np.corrcoef(part.ravel(), squeezed.ravel())[0, 1])
    assert (alike[0] > alike[1] + 0.03) if quarter % 2 == 0 else (alike[1] > alike[0] + 0.03), alike


def test_shadows_darken_the_side_toward_the_sun(bowl: Path) -> None:
    light = CameraOptions(**{**OFF, "shadows": 1.0}, photometry=("lambert",), contrast=(1.0, 1.0))
    seen = render(
        Raster(bowl), Pose(10.0, 20.0, 30.0, 270.0, 5.0, camera=1), Rendering("dem", 112, camera=light)
    )
    assert (seen[46:66, 34:56] < 5).mean() > 0.9  # the western wall's shadow on the floor


def test_reader_draws_cameras_for_its_share(paint: Paint, bowl: Path, tmp_path: Path) -> None:
    (tmp_path / "craters.csv").write_text("id,lat,lon,diameter_km\na,10,20,30\n")
    optical = paint("map.tif", lambda lat, lon: 100 + 50 * np.sin(np.radians(9 * lon)), dtype="uint8")
    options = {
        "raster": bowl,
        "catalogue": tmp_path / "craters.csv",
        "id_column": "id",
        "lat_column": "lat",
        "lon_column": "lon",
        "diameter_column": "diameter_km",
        "kind": "dem",
        "views": "query",
        "queries_per_crater": 40,
        "co_visible": False,
        "size": 32,
    }
    without = Mosaic(MosaicOptions(**options))
    mosaic = Mosaic(MosaicOptions(**options, query_camera={"share": 0.5}, query_albedo=optical))
    poses = [view.pose for view in mosaic.views(0)]
    assert 10 < sum(pose.camera is not None for pose in poses) < 30
    assert mosaic.stamp != without.stamp
    for view in mosaic.views(0):
        uri = mosaic.item(view).uri
        np.testing.assert_array_equal(mosaic.load(uri), mosaic.load(uri))
    taken_by = next(pose for pose in poses if pose.camera is not None)
    with pytest.raises(BadImage, match="the reader has no table query_camera"):
        without.load(to_uri(taken_by))


def test_images_take_a_camera_too(paint: Paint) -> None:
    raster = Raster(
        paint("grey.tif", lambda lat, lon: 100 + 50 * np.sin(np.radians(40 * lon)), dtype="uint8")
    )
    how = Rendering("image", 48, camera=CameraOptions(tilted=1.0))
    assert render(raster, Pose(0.0, 0.0, 400.0, camera=2), how).shape == (48, 48)
    with pytest.raises(BadImage, match=r"outside|no data"):
        render(raster, Pose(95.0, 0.0, 400.0, camera=2), how)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"tilt": (0, 80)}, "50 degrees at most"),
        ({"clipped": (0, 0.6)}, "0.4 at most"),
        ({"noise": 2}, "less than or equal to 1"),
        ({"gamma": (2.0, 1.0)}, "least, most"),
        ({"gamma": (0.0, 1.0)}, "from 0.1 to 10"),
        ({"contrast": (0.0, 1.0)}, "from 0.02 to 1"),
        ({"contrast": (1.0, 5.0)}, "from 0.02 to 1"),
        ({"uneven_strength": (0.1, 1.5)}, "from 0 to 1"),
        ({"noise_strength": (0.1, float("nan"))}, "finite"),
        ({"shadows": True}, "a number is asked for, not true"),
        ({"tilt": 20}, "a pair of numbers"),
        ({"tilt": (20,)}, "a pair of numbers"),
        ({"jpeg_quality": (0, 50)}, "1 to 100"),
        ({"photometry": ("hapke",)}, "lommel_seeliger"),
        ({"nose": 1}, "Extra inputs"),
    ],
)
def test_wrong_options_are_named(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        CameraOptions(**wrong)


def test_an_albedo_that_nothing_reads_is_refused(bowl: Path) -> None:
    common = {"raster": bowl, "catalogue": bowl, "query_albedo": bowl}
    with pytest.raises(ValidationError, match="add the table query_camera"):
        MosaicOptions(**common, kind="dem")
    with pytest.raises(ValidationError, match="only a DEM"):
        MosaicOptions(**common, query_camera={})
    with pytest.raises(ValidationError, match="query_albedo is not given"):
        MosaicOptions(raster=bowl, catalogue=bowl, kind="dem", query_albedo_extent=(0, 0, 1, 1))


@pytest.mark.parametrize("name", ["query_brightness", "query_contrast"])
def test_greys_that_cameras_draw_are_no_option_beside_them(bowl: Path, name: str) -> None:
    common = {"raster": bowl, "catalogue": bowl, name: 0.5}
    with pytest.raises(ValidationError, match=f"{name} is not used: every query view is a camera's"):
        MosaicOptions(**common, query_camera={})
    with pytest.raises(ValidationError, match=f"{name} is not used: every query view is a camera's"):
        PlanetsOptions(**{name: 0.5}, query_camera={})
    assert MosaicOptions(**common, query_camera={"share": 0.5})


def test_an_albedo_of_another_body_is_refused(paint: Paint, bowl: Path) -> None:
    mars = paint(
        "mars.tif", lambda lat, lon: 100 + lat, dtype="uint8", crs="+proj=longlat +R=3396190 +no_defs"
    )
    options = MosaicOptions(raster=bowl, catalogue=bowl, kind="dem", query_camera={}, query_albedo=mars)
    with pytest.raises(ReaderError, match=r"mars\.tif.*3396.*1737"):
        Mosaic(options)


def test_ground_in_shadow_and_images_of_one_grey_are_refused(paint: Paint) -> None:
    wall = paint("wall.tif", lambda lat, lon: np.where(np.abs(lon + 19) < 0.4, 2e5, 0.0) + 0 * lat)
    dark = Rendering("dem", 32, camera=CameraOptions(**{**OFF, "shadows": 1.0}))
    with pytest.raises(BadImage, match="wholly in shadow"):
        render(Raster(wall), Pose(0.0, -17.4, 20.0, 270.0, 5.0, camera=5), dark)
    grey = paint("grey.tif", lambda lat, lon: 500 + 0 * lat * lon, dtype="uint16")
    with pytest.raises(BadImage, match="flat"):
        render(Raster(grey), Pose(0.0, 0.0, 100.0, camera=5), Rendering("image", 32, camera=CameraOptions()))


def test_slopes_of_a_camera_are_those_of_the_gallery(bowl: Path) -> None:
    off = CameraOptions(**OFF, contrast=(1.0, 1.0))
    plain = render(Raster(bowl), Pose(10.0, 20.0, 30.0), Rendering("slope", 64)).astype(float)
    seen = render(Raster(bowl), Pose(10.0, 20.0, 30.0, camera=5), Rendering("slope", 64, camera=off))
    assert np.corrcoef(plain.ravel(), seen.ravel())[0, 1] > 0.999


def test_a_misspelt_option_of_the_table_names_the_closest() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown option 'query_camera.shadow'; did you mean 'shadows'\? known: share"
    ):
        registry().ref("reader", "mosaic", {"query_camera": {"shadow": 1}})
