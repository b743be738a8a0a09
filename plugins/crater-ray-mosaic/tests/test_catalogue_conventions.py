"""What headers and options say of a catalogue's numbers: followed, compared, and checked against the body."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crater_ray.errors import ReaderError
from crater_ray_mosaic.catalogue import Columns, Conventions, read_catalogue
from crater_ray_mosaic.catalogue.measures import Body
from crater_ray_mosaic.mosaic import Mosaic, mosaic

FLAT = 1 / 169.894447
MOON = Body(1737.4, 0.0)
Paint = Callable[..., Path]


def crater(
    tmp_path: Path,
    said: Conventions | None = None,
    body: Body = MOON,
    lat: tuple[str, object] = ("lat", 1.5),
    lon: tuple[str, object] = ("lon", 2.5),
    d: tuple[str, object] = ("d", 3),
) -> tuple[float, float, float]:
    path = tmp_path / "c.csv"
    path.write_text(f'"{lat[0]}","{lon[0]}","{d[0]}"\n{lat[1]},{lon[1]},{d[1]}\n', encoding="utf-8")
    columns = Columns(None, lat[0], lon[0], d[0])
    found = read_catalogue(path, columns, said or Conventions(), body=body)
    return round(float(found.lat[0]), 9), round(float(found.lon[0]), 9), round(float(found.diameter[0]), 9)


@pytest.mark.parametrize(
    ("header", "number"),
    [
        *(("Diameter_m", 3000), ("D [m]", 3000), ("diameter, metres", 3000), ("DiamKm", 3), ("Diam (km)", 3)),
        *(("RADIUS", 1.5), ("R_km", 1.5), ("radius_m", 1500), ("Rad (km)", 1.5), ("DIAM_CIRC_IMG", 3)),
    ],
)
def test_a_header_says_unit_and_radius(tmp_path: Path, header: str, number: float) -> None:
    assert crater(tmp_path, d=(header, number)) == (1.5, 2.5, 3)


@pytest.mark.parametrize(
    ("header", "number"),
    [
        *(("Lon_W", 357.5), ("LONGITUDE_W", -2.5), ("lonW360", 357.5), ("Longitude (°W)", -2.5)),
        *(("West longitude", -2.5), ("lon (positive west)", -2.5), ("lon_e180", 2.5), ("LonE", 2.5)),
        *(
            ("Longitude (degrees_east)", 2.5),
            ("Lon +E", 2.5),
            ("lon [rad]", math.radians(2.5)),
            ("long", 2.5),
        ),
    ],
)
def test_a_header_says_the_direction_of_longitude(tmp_path: Path, header: str, number: float) -> None:
    assert crater(tmp_path, lon=(header, number)) == (1.5, 2.5, 3)


def test_options_say_what_headers_do_not(tmp_path: Path) -> None:
    assert crater(tmp_path, Conventions(west_positive=True), lon=("lon", -2.5)) == (1.5, 2.5, 3)
    assert crater(tmp_path, Conventions(diameter_unit="m"), d=("d", 3000)) == (1.5, 2.5, 3)
    assert crater(tmp_path, Conventions(diameter_is="radius"), d=("d", 1.5)) == (1.5, 2.5, 3)
    radians = {"lat": ("lat", math.radians(1.5)), "lon": ("lon", math.radians(2.5))}
    assert crater(tmp_path, Conventions(angle_unit="rad"), **radians) == (1.5, 2.5, 3)
    # letters of a cell say it themselves, whatever the column counts
    assert crater(tmp_path, Conventions(west_positive=True), lon=("lon", "2.5E")) == (1.5, 2.5, 3)


@pytest.mark.parametrize(
    ("said", "given", "names"),
    [
        (Conventions(diameter_unit="km"), {"d": ("Diameter_m", 3000)}, "'Diameter_m' says m.*diameter_unit"),
        (Conventions(diameter_is="diameter"), {"d": ("RADIUS", 3)}, "'RADIUS' says radius.*diameter_is"),
        (Conventions(west_positive=True), {"lon": ("lon_e180", 3)}, "'lon_e180' says longitudes east.*west"),
        (Conventions(west_positive=False), {"lon": ("Lon_W", 3)}, "'Lon_W' says longitudes west"),
        (Conventions(latitude="planetocentric"), {"lat": ("Latitude (planetographic)", 3)}, "planetographic"),
        (Conventions(angle_unit="rad"), {"lat": ("lat_deg", 3)}, "'lat_deg' says deg.*angle_unit"),
        (Conventions(), {"d": ("Diameter (pix)", 3)}, "'Diameter .pix.' is in pixels"),
    ],
)
def test_two_statements_are_compared(
    tmp_path: Path, said: Conventions, given: dict[str, Any], names: str
) -> None:
    with pytest.raises(ReaderError, match=names):
        crater(tmp_path, said, **given)


def test_planetographic_latitudes(tmp_path: Path) -> None:
    """tan(centric) = (1 - f)² tan(graphic); at 45° on Mars they are a third of a degree apart."""
    mars = Body(3396.19, FLAT)
    wanted = round(math.degrees(math.atan((1 - FLAT) ** 2 * math.tan(math.radians(45)))), 9)
    assert wanted == pytest.approx(44.662, abs=1e-3)
    graphic = ("Latitude (planetographic)", 45)
    assert crater(tmp_path, body=mars, lat=graphic)[0] == wanted
    assert crater(tmp_path, Conventions(latitude="planetographic"), mars, ("lat", 45))[0] == wanted
    assert crater(tmp_path, lat=graphic)[0] == 45  # the Moon is a sphere
    assert crater(tmp_path, Conventions(flattening=FLAT), Body(3396.19, None), graphic)[0] == wanted
    with pytest.raises(ReaderError, match="give option body, or flattening"):
        crater(tmp_path, body=Body(3396.19, None), lat=graphic)


def lines(rows: list[tuple[float, float, float]], header: str = "lat,lon,d") -> str:
    return header + "\n" + "".join(f"{a!r},{b!r},{c!r}\n" for a, b, c in rows)


def globe(paint: Paint, step: float = 0.5) -> Path:
    hills = np.random.default_rng(0).integers(40, 90, (round(180 / step), round(360 / step)))
    return paint("m.tif", hills, step=step, width=hills.shape[1], height=hills.shape[0], dtype="uint8")


def reader(paint: Paint, tmp_path: Path, text: str, **more: Any) -> Mosaic:
    path = tmp_path / "list.csv"
    path.write_text(text)
    names = {"lat_column": "lat", "lon_column": "lon", "diameter_column": "d"}
    files = {"raster": str(globe(paint)), "catalogue": str(path)}
    return mosaic(**(files | names | more))


def test_diameters_that_the_body_cannot_have(paint: Paint, tmp_path: Path) -> None:
    rows = [(n % 60 - 30.0, n * 8.0 - 160.0, 1000.0 + n) for n in range(40)]  # of 1 km, in metres
    for many in (lines(rows), lines([(1.0, 2.0, 3000.0)])):
        with pytest.raises(ReaderError, match=r'on a body of radius 1,737\.4 km; is it diameter_unit = "m"'):
            reader(paint, tmp_path, many).parts()
    assert len(reader(paint, tmp_path, lines([(1.0, 2.0, 1000.0)])).catalogue) == 1  # a basin
    assert len(reader(paint, tmp_path, lines(rows), diameter_unit="km").catalogue) == 40  # if they insist
    metres = reader(paint, tmp_path, lines(rows), diameter_unit="m")
    assert metres.catalogue.diameter.max() < 1.1
    with pytest.raises(ReaderError, match=r"smaller than 1\.\d+ km, and a pixel of m\.tif is 15\.16 km"):
        metres.parts()


def test_radians_are_seen(paint: Paint, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = [(math.asin(draw.uniform(-1, 1)), draw.uniform(-math.pi, math.pi), 90.0) for _ in range(200)]
    with pytest.raises(ReaderError, match='look like radians; give angle_unit = "rad"'):
        reader(paint, tmp_path, lines(rows)).parts()
    found = reader(paint, tmp_path, lines(rows), angle_unit="rad").catalogue
    np.testing.assert_allclose(np.radians(found.lat), [lat for lat, _, _ in rows], atol=1e-12)
    assert len(reader(paint, tmp_path, lines(rows), angle_unit="deg").catalogue) == 200


def test_the_preset_of_the_gazetteer_knows_the_body(paint: Paint, tmp_path: Path) -> None:
    names: dict[str, Any] = {"lat_column": None, "lon_column": None, "diameter_column": None}
    text = lines([(10.0, 20.0, 90.0)], "Latitude,Longitude,Diameter (km)")

    def lon(raster: Path, **more: Any) -> float:
        given = names | more | {"raster": str(raster), "preset": "craterpy"}
        return float(reader(paint, tmp_path, text, **given).catalogue.lon[0])

    moon = globe(paint)
    mercury = paint("mercury.tif", np.full((360, 720), 9), crs="+proj=longlat +R=2439400 +no_defs")
    assert (lon(mercury, body="Mercury"), lon(moon, body="moon"), lon(moon)) == (-20, 20, 20)
    assert (lon(moon, west_positive=True), lon(mercury, west_positive=False)) == (-20, 20)
    with pytest.raises(
        ReaderError, match="westward for mercury, whose radius the raster has; give option body"
    ):
        lon(mercury)
