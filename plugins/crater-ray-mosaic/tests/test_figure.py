"""What is said of a body's size in several places is compared, and a disagreement names both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from crater_ray.errors import ReaderError
from crater_ray_mosaic.bodies import radii_km
from crater_ray_mosaic.mosaic import mosaic
from crater_ray_mosaic.raster import Raster

Paint = Callable[..., Path]
MARS = "+proj=longlat +a=3396190 +b=3376200 +no_defs"
MERCATOR = "+proj=merc +a=6378137 +b=6378137 +units=m +no_defs"


def plain(lat: Any, lon: Any) -> Any:
    return lat + lon + 100


def test_the_iaus_bodies() -> None:
    assert radii_km("Moon") == pytest.approx((1737.4, 1737.4, 1737.4))
    assert radii_km("mars") == pytest.approx((3396.19, 3376.2, 3396.19))
    assert radii_km("ceres") == pytest.approx((487.3, 446.0, 487.3))
    assert radii_km("bennu") is None


@pytest.mark.parametrize(
    ("crs", "says", "named"),
    [
        (None, {"radius_km": 1737400.0}, ("radius_km = 1737400", "kilometres", "1737.4")),
        (
            "+proj=longlat +R=1737400",
            {"body": "mars"},
            ("'unknown'", "1737.4 km", 'body = "mars"', "3396.19 km"),
        ),
        ("+proj=longlat +R=1737400", {"radius_km": 1774.0}, ("1737.4 km", "radius_km = 1774")),
        ("+proj=longlat +R=1737400", {"body": "mars", "radius_km": 1737.4}, ("radius_km", 'body = "mars"')),
        (None, {"body": "moon", "radius_km": 3396.19}, ("radius_km = 3396.19", 'body = "moon"')),
        (
            MERCATOR,
            {"body": "moon"},
            ("6378.14 km", 'body = "moon"', "option crs", "both body and radius_km"),
        ),
        ("EPSG:4326", {"radius_km": 1737400.0}, ("radius_km", "kilometres")),
    ],
)
def test_what_disagrees_is_an_error_naming_both(
    paint: Paint, crs: str | None, says: dict[str, Any], named: tuple[str, ...]
) -> None:
    path = paint("map.tif", plain, step=1.0, width=360, height=180, crs=crs, metres=1.0)
    for words in named:
        with pytest.raises(ReaderError, match=words):
            Raster(path, **says)


@pytest.mark.parametrize(
    ("crs", "says", "radius"),
    [
        ("+proj=longlat +R=3396190", {"body": "mars"}, 3396.19),
        ("+proj=longlat +R=3389500", {"body": "mars"}, 3389.5),  # the mean radius
        ("+proj=longlat +R=3376200", {"body": "Mars"}, 3376.2),  # the polar one, of polar HiRISE images
        ("+proj=longlat +R=470000", {"body": "ceres"}, 470.0),  # between the semi-axes
        (MARS, {"radius_km": 3389.5}, 3389.5),
        ("+proj=longlat +R=1737400", {"body": "a rock of ours"}, 1737.4),  # nothing to compare with
        (None, {"body": "moon"}, 1737.4),
        (None, {"body": "moon", "radius_km": 1738.0}, 1738.0),
        ("EPSG:4326", {}, 6378.137),
        ("EPSG:4326", {"body": "earth"}, 6378.137),
        ("EPSG:4326", {"body": "earth", "radius_km": 6371.0}, 6371.0),
    ],
)
def test_what_agrees_is_used(paint: Paint, crs: str | None, says: dict[str, Any], radius: float) -> None:
    frame = Raster(paint("map.tif", plain, step=1.0, width=360, height=180, crs=crs), **says).frame
    assert frame.radius_km == pytest.approx(radius)


@pytest.mark.parametrize(
    "says", [{"body": "moon"}, {"radius_km": 1737.4}, {"body": "moon", "radius_km": 1737.4}]
)
def test_earths_degrees_yield_to_the_body_with_a_warning(paint: Paint, says: dict[str, Any]) -> None:
    path = paint("map.tif", plain, step=1.0, width=360, height=180, crs="EPSG:4326")
    with pytest.warns(UserWarning, match=r"WGS 84.*1737\.4 km"):
        frame = Raster(path, **says).frame
    assert frame.radius_km == 1737.4
    assert frame.flattening == 0.0


def test_body_and_radius_together_use_any_crs_for_its_coordinates(tmp_path: Path, paint: Paint) -> None:
    """A web map of the Moon, in Earth's metres."""
    side = 20037508.342789244
    path, step = tmp_path / "web.tif", side / 256
    with rasterio.open(
        path, "w", driver="GTiff", width=512, height=512, count=1, dtype="float32", crs="EPSG:3857",
        transform=Affine(step, 0, -side, 0, -step, side),
    ) as file:  # fmt: skip
        file.write(np.zeros((1, 512, 512), np.float32))
    with pytest.warns(UserWarning, match="coordinates alone"):
        frame = Raster(path, body="moon", radius_km=1737.4).frame
    assert frame.radius_km == 1737.4
    rows, columns = frame.pixels(np.array([0.0, 45.0]), 90.0, np.zeros(2))
    np.testing.assert_allclose(columns, [383.5, 383.5], atol=1e-6)
    merc = np.log(np.tan(np.pi / 4 + np.radians([0.0, 45.0]) / 2)) / np.pi * 256
    np.testing.assert_allclose(rows, 255.5 - merc, atol=1e-6)
    assert Raster(path, crs=f"+proj=merc +R={side / np.pi / 2}").frame.radius_km == pytest.approx(
        3189.07, abs=0.01
    )


def test_a_presets_body_is_compared_and_used(paint: Paint, catalogue: Callable[..., Path]) -> None:
    craters = catalogue([("a", 0.0, 0.0, 100.0)])
    mars = paint("mars.tif", plain, step=1.0, width=360, height=180, crs=MARS)
    with pytest.raises(ReaderError, match=r'preset = "hkpolyu" \(1737.4 km\)'):
        mosaic(raster=mars, catalogue=craters, preset="hkpolyu")
    with pytest.raises(ReaderError, match=r'body = "mars".*preset = "hkpolyu"'):
        mosaic(raster=mars, catalogue=craters, preset="hkpolyu", body="mars")
    unknown = paint("unknown.tif", plain, step=1.0, width=360, height=180, crs=None)
    assert mosaic(raster=unknown, catalogue=craters, preset="hkpolyu").raster.frame.radius_km == 1737.4


@pytest.mark.parametrize(
    ("crs", "metres", "extent", "match"),
    [
        ("+proj=eqc +R=1737400", np.radians(1) * 1737400, (-90, -45, 90, 45), "disagree about its place"),
        ("+proj=longlat +R=1737400", 1.0, (0, -90, 180, 90), "disagree about its place"),
        (None, 1.0, (0, -45, 360, 90), "disagree about its place"),
        ("+proj=stere +lat_0=90 +R=1737400", 1000.0, (-180, -90, 180, 90), "simple cylindrical rasters"),
    ],
)
def test_an_extent_beside_the_files_own(
    paint: Paint, crs: str | None, metres: float, extent: Any, match: str
) -> None:
    path = paint("map.tif", plain, step=1.0, width=360, height=180, crs=crs, metres=metres)
    with pytest.raises(ReaderError, match=match):
        Raster(path, extent=extent, body="moon")


@pytest.mark.parametrize("metres", [np.radians(1) * 1737400, 1.0])
def test_an_extent_that_agrees_is_degrees_whatever_the_crs_is_in(paint: Paint, metres: float) -> None:
    crs = f"+proj={'eqc' if metres > 1 else 'longlat'} +R=1737400"
    path = paint("map.tif", plain, step=1.0, width=360, height=180, crs=crs, metres=metres)
    for extent in ((-180, -90, 180, 90), (180, -90, 540, 90)) if metres > 1 else ((-180, -90, 180, 90),):
        frame = Raster(path, extent=extent).frame
        assert frame.radius_km == 1737.4
        assert (frame.step_lon, frame.step_lat) == (1.0, 1.0)
        assert frame.holds(np.array([80.0]), np.array([-170.0])).all()


def test_a_crs_by_hand_is_in_place_of_the_files(paint: Paint) -> None:
    path = paint("map.tif", plain, step=1.0, width=360, height=180, crs="+proj=eqc +R=6378137")
    assert Raster(path, crs="IAU_2015:30100").frame.radius_km == 1737.4
    with pytest.raises(ReaderError, match="PROJ cannot read option crs = 'moon'"):
        Raster(path, crs="moon")


@pytest.mark.parametrize(
    ("units", "scale", "vertical", "factor"),
    [
        ("km", 1.0, None, 1000.0),
        ("m", 1.0, None, 1.0),
        ("", 0.5, None, 0.5),
        ("", 1.0, 1000.0, 1000.0),
        ("ft", 1.0, None, 0.3048),
        ("US survey foot", 0.5, None, 0.1524003),
        ("Meters above datum", 1.0, None, 1.0),
        ("furlong", 1.0, 201.168, 201.168),
    ],
)
def test_heights_are_metres_whatever_the_dem_is_in(
    paint: Paint,
    catalogue: Callable[..., Path],
    units: str,
    scale: float,
    vertical: float | None,
    factor: float,
) -> None:
    def slope(lat: Any, lon: Any) -> Any:
        return (300 * lat + 200 * np.sin(lon)) / factor

    crater = catalogue([("a", 0.0, 0.0, 100.0)])
    shared = {"catalogue": crater, "preset": "hkpolyu", "kind": "dem", "scales": [2.0]}
    views = []
    for name, what in (("as_said.tif", slope), ("metres.tif", lambda a, b: slope(a, b) * factor)):
        path = paint(name, what, -10, 10, 0.1, 200, 200)
        with rasterio.open(path, "r+") as file:
            if name == "as_said.tif":
                file.units, file.scales = (units,), (scale,)
        reader = mosaic(raster=path, vertical=vertical if name == "as_said.tif" else None, **shared)
        views += [reader.load(item.uri) for part in reader.parts() for item in reader.read(part)]
    assert np.abs(views[0].astype(int) - views[1]).max() <= 1


@pytest.mark.parametrize(
    ("units", "scale", "vertical", "match"),
    [
        ("km", 1.0, 1.0, "own unit, 1000 m, disagree"),
        ("", 0.5, 0.5, "own scale, which counts anyway"),
        ("furlong", 1.0, None, "heights in 'furlong', which is no length known here; set vertical"),
    ],
)
def test_a_dems_unit_beside_option_vertical(
    paint: Paint, catalogue: Callable[..., Path], units: str, scale: float, vertical: float | None, match: str
) -> None:
    path = paint("dem.tif", plain, -10, 10, 0.5, 40, 40)
    with rasterio.open(path, "r+") as file:
        file.units, file.scales = (units,), (scale,)
    with pytest.raises(ReaderError, match=match):
        mosaic(
            raster=path,
            kind="dem",
            vertical=vertical,
            preset="hkpolyu",
            catalogue=catalogue([("a", 0.0, 0.0, 100.0)]),
        )
