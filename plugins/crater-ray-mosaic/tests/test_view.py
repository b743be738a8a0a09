"""A crater stays round, the sun stands where it is said to, what cannot be seen is refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crater_ray.errors import BadImage
from crater_ray_mosaic.pose import Pose, from_uri, to_uri
from crater_ray_mosaic.raster import Raster
from crater_ray_mosaic.rendering import Rendering
from crater_ray_mosaic.shade import lambert, steepness
from crater_ray_mosaic.view import render

Paint = Callable[..., Path]
MOON = 1737.4


def away(lat: Any, lon: Any, lat_0: float, lon_0: float) -> Any:
    """Great-circle distance, kilometres (haversine)."""
    a, b, c, d = (np.radians(x) for x in (lat, lon, lat_0, lon_0))
    half = np.sin((a - c) / 2) ** 2 + np.cos(a) * np.cos(c) * np.sin((b - d) / 2) ** 2
    return 2 * MOON * np.arcsin(np.sqrt(half))


@pytest.mark.parametrize("lat", [0.0, 45.0, 60.0, -75.0])
@pytest.mark.parametrize("lon", [20.0, 180.0, -179.0])
def test_a_circle_stays_round_and_centred(paint: Paint, lat: float, lon: float) -> None:
    disc = paint(
        "disc.tif",
        lambda a, b: np.where(away(a, b, lat, lon) < 40, 200, 50),
        step=0.25,
        width=1440,
        height=720,
        dtype="uint8",
    )
    view = render(Raster(disc), Pose(lat, lon, 80), Rendering()).astype(float)
    weight = (view - 50) / 150
    y, x = np.mgrid[:224, :224]
    x_0, y_0 = (weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()
    moments = np.cov(np.stack([x.ravel(), y.ravel()]), aweights=np.clip(weight, 0, None).ravel())
    small, large = np.linalg.eigvalsh(moments)
    assert abs(x_0 - 111.5) < 2
    assert abs(y_0 - 111.5) < 2
    assert large / small < 1.06  # sqrt: axes within 3 %; unwarped at 60° they would differ by 2
    assert np.sqrt(moments.trace() / 2) * 2 == pytest.approx(56, rel=0.05)  # radius 40 km of 160 km in 224 px


@pytest.mark.parametrize("azimuth", [0.0, 90.0, 180.0, 270.0, 45.0])
@pytest.mark.parametrize("rotation", [0.0, 30.0])
def test_slopes_that_face_the_sun_are_brighter(paint: Paint, azimuth: float, rotation: float) -> None:
    cone = paint(
        "cone.tif",
        lambda a, b: 8000 - 100 * np.minimum(away(a, b, 50.0, -180.0), 60),
        step=0.25,
        width=1440,
        height=720,
    )
    view = render(Raster(cone), Pose(50.0, -180.0, 80, azimuth, 30.0, rotation), Rendering("dem")).astype(
        float
    )
    angle = np.radians(azimuth - rotation)  # from the image's up, clockwise
    x, y = 111.5 + 45 * np.sin(angle), 111.5 - 45 * np.cos(angle)

    def near(x: float, y: float) -> float:
        return float(view[round(y) - 4 : round(y) + 5, round(x) - 4 : round(x) + 5].mean())

    toward, behind = near(x, y), near(223 - x, 223 - y)
    assert toward > 200
    assert behind < 60


def test_lambert_is_the_cosine_of_a_plane() -> None:
    y, x = np.mgrid[:10, :10]
    height = (0.3 * x * 50 + 0.2 * -y * 50).astype(np.float32)  # rises 0.3 eastward and 0.2 northward
    normal = np.array([-0.3, -0.2, 1.0]) / np.linalg.norm([-0.3, -0.2, 1.0])
    for azimuth, elevation in ((270, 30), (10, 60), (123, 5)):
        a, e = np.radians(azimuth), np.radians(elevation)
        sun = np.array([np.sin(a) * np.cos(e), np.cos(a) * np.cos(e), np.sin(e)])
        np.testing.assert_allclose(lambert(height, 50, azimuth, elevation), max(0, normal @ sun), atol=1e-5)


def test_slopes_are_those_of_a_plane_under_any_sun(paint: Paint) -> None:
    y, x = np.mgrid[:10, :10]
    height = (0.3 * x * 50 + 0.4 * -y * 50).astype(np.float32)
    np.testing.assert_allclose(steepness(height, 50), np.degrees(np.arctan(0.5)), atol=1e-4)
    raster = Raster(paint("cone.tif", lambda lat, lon: -2e3 * np.hypot(lat, lon).clip(1), dtype="float32"))
    slope = Rendering("slope")
    views = [render(raster, Pose(0.0, 0.0, 150, azimuth), slope) for azimuth in (None, 90.0, 200.0)]
    assert all((view == views[0]).all() for view in views)
    assert views[0][112, 112] < 20 < 200 < views[0][112, 20]  # flat on top, steep around it


def test_a_resolution_is_what_a_coarser_camera_sees(paint: Paint) -> None:
    raster = Raster(
        paint("fine.tif", lambda lat, lon: 1e3 * np.sin(30 * lat) * np.sin(30 * lon), dtype="float32")
    )
    pose = Pose(0.0, 0.0, 150, 270.0, 30.0)
    fine, same, coarse = (render(raster, pose, Rendering("dem", resolution_km=km)) for km in (0.0, 0.1, 15.0))
    assert (same == fine).all()  # 300 km in 224 pixels are coarser than that already
    assert coarse.shape == fine.shape
    steps = [np.abs(np.diff(view.astype(float), axis=1)).mean() for view in (fine, coarse)]
    assert steps[1] < steps[0]
    small = render(raster, pose, Rendering("dem", size=20))
    assert (coarse == np.asarray(Image.fromarray(small).resize((224, 224), Image.Resampling.BILINEAR))).all()


def test_sixteen_bits_and_floats_are_stretched_and_eight_are_not(paint: Paint) -> None:
    def ramp(lat: Any, lon: Any) -> Any:
        return 100 + lon + 0 * lat

    pose = Pose(0.0, 0.0, 150)
    plain = render(Raster(paint("8.tif", ramp, dtype="uint8")), pose, Rendering())
    assert 90 < plain.min() < plain.max() < 110
    for name, factor, dtype in (("16.tif", 100, "uint16"), ("f.tif", 1e-3, "float32")):
        view = render(
            Raster(paint(name, lambda a, b, f=factor: ramp(a, b) * f, dtype=dtype)), pose, Rendering()
        )
        assert (view.min(), view.max()) == (0, 255)
        assert int(view[112, 112]) == pytest.approx(127, abs=4)
    assert (
        np.ptp(render(Raster(paint("8.tif", ramp, dtype="uint8")), pose, Rendering(stretch="always"))) == 255
    )


def test_colour_brightness_and_contrast(paint: Paint) -> None:
    stripes = np.stack([np.where(np.arange(80) % 20 < 10, 60, 140) * factor for factor in (1.0, 0.5, 0.25)])
    path = paint(
        "rgb.tif",
        np.broadcast_to(stripes[:, None], (3, 80, 80)),
        -10,
        10,
        0.25,
        80,
        80,
        dtype="uint8",
        photometric="RGB",
    )
    plain = render(Raster(path), Pose(0, 0, 150), Rendering()).astype(int)
    assert plain.shape == (224, 224, 3)
    assert (plain[..., 0] >= plain[..., 1]).all()
    brighter = render(Raster(path), Pose(0, 0, 150, brightness=30), Rendering()).astype(int)
    np.testing.assert_allclose(brighter - plain, 30, atol=1)
    softer = render(Raster(path), Pose(0, 0, 150, contrast=0.5), Rendering()).astype(int)
    assert np.ptp(softer[..., 0]) == pytest.approx(np.ptp(plain[..., 0]) / 2, abs=2)


@pytest.mark.parametrize(
    ("pose", "reason"),
    [
        (Pose(40.0, 0.0, 50), "outside: its centre"),
        (Pose(0.0, 30.0, 50), "outside: its centre"),
        (Pose(9.0, 0.0, 200), r"no data: 49% of it, 42% outside"),
        (Pose(0.0, 5.0, 100), r"no data: \d+% of it, 0% outside"),
        (Pose(-5.0, -5.0, 50), "flat: a standard deviation of 0.00"),
        (Pose(0.0, 0.0, 1e5), "no data: "),
    ],
)
def test_degenerate_views_are_refused(paint: Paint, pose: Pose, reason: str) -> None:
    raster = Raster(
        paint(
            "holes.tif",
            lambda a, b: np.where((b > 5) & (a < 99), 0, 90),
            -10,
            10,
            0.25,
            80,
            80,
            dtype="uint8",
            nodata=0,
        )
    )
    with pytest.raises(BadImage, match=reason):
        render(raster, pose, Rendering())


def test_a_flat_or_holed_dem_is_refused(paint: Paint) -> None:
    flat = Raster(paint("flat.tif", lambda a, b: 0 * a * b - 1500, dtype="int16"))
    with pytest.raises(BadImage, match="flat: every slope"):
        render(flat, Pose(0, 0, 50, 270, 30), Rendering("dem"))
    constant = Raster(paint("constant.tif", lambda a, b: 0 * a * b + 5, dtype="uint16"))
    with pytest.raises(BadImage, match="flat: all of its pixels"):
        render(constant, Pose(0, 0, 50), Rendering())
    nans = np.random.default_rng(0).normal(0, 100, (360, 720))
    nans[:, 365:] = np.nan
    with pytest.raises(BadImage, match="no data: "):
        render(Raster(paint("nan.tif", nans)), Pose(0, 0, 150, 270, 30), Rendering("dem"))
    some = render(Raster(paint("nan.tif", nans)), Pose(0, 0, 150, 270, 30), Rendering("dem", max_invalid=0.5))
    assert some[:, -20:].std() == 0  # filled with the mean of the rest
    assert some[:, :90].std() > 20


def test_the_same_bytes_again_and_from_many_threads(paint: Paint) -> None:
    hills = paint(
        "hills.tif",
        np.random.default_rng(1).normal(0, 500, (360, 720)),
        dtype="int16",
        tiled=True,
        blockxsize=64,
        blockysize=64,
    )
    poses = [
        Pose(lat, lon, 90 + lat, 100.0, 25.0) for lat in (-70, -20, 0, 35) for lon in (-179, -60, 5, 179.5)
    ]
    once = [render(Raster(hills), pose, Rendering("dem")).tobytes() for pose in poses]
    raster = Raster(hills)
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda pose: render(raster, pose, Rendering("dem")).tobytes(), poses * 3))
    assert again == once * 3


def test_a_pose_survives_its_uri() -> None:
    for pose in (
        Pose(-43.265435, 66.810674, 17.6956, 270.0, 30.0),
        Pose(1.5, -180.0, 3.0),
        Pose(0.0, 0.0, 1.0, rotation=-12.5, brightness=-3.0, contrast=0.9),
    ):
        assert from_uri(to_uri(pose)) == pose
    assert to_uri(Pose(1.5, 2.0, 3.0)) == "lat=1.500000&lon=2.000000&half_width_km=3.000000"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("", "no lat"),
        ("lat=1&lon=2", "no half_width_km"),
        ("lat=1&lon=2&half_width_km=x", "not a number"),
        ("lat=1&lon=2&half_width_km=1&sun=3", "unknown key 'sun'"),
        ("lat=91&lon=2&half_width_km=1", "not a place"),
        ("lat=1&lon=2&half_width_km=0", "not a place"),
        ("lat=nan&lon=2&half_width_km=1", "lat is not a finite number"),
        ("lat=1&lon=inf&half_width_km=1", "lon is not a finite number"),
        ("lat=1&lon=2&half_width_km=1e400", "half_width_km is not a finite number"),
        ("lat=1&lon=2&half_width_km=1&az=nan&el=30", "az is not a finite number"),
        ("lat=1&lon=2&half_width_km=1&rot=-inf", "rot is not a finite number"),
        ("lat=1&lon=2&half_width_km=1&contrast=nan", "contrast is not a finite number"),
        ("lat=1&lon=2&half_width_km=1&camera=inf", "camera is not a finite number"),
    ],
)
def test_a_uri_that_is_no_pose_is_a_bad_image(uri: str, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        from_uri(uri)
