"""What a catalogue's rows and headers mean: skipped, followed, compared with options and with the body."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from inputs.row import Row

WANTED = (1.5, 2.5, 3.0)


def _read(
    text: str, names: tuple[str | None, ...] = ("id", "lat", "lon", "d"), drop: Any = None, **said: Any
) -> Callable[[Path], Any]:
    def attempt(folder: Path) -> Any:
        from crater_ray_mosaic.catalogue import Columns, Conventions, read_catalogue
        from crater_ray_mosaic.catalogue.measures import Body

        path = folder / "c.csv"
        path.write_text(text, encoding="utf-8")
        return read_catalogue(path, Columns(*names), Conventions(**said), body=Body(1737.4, 0.0), drop=drop)

    return attempt


def _one(header: str, cells: str = "1.5,2.5,3", **said: Any) -> Callable[[Path], None]:
    """One crater under three headers: the place and the diameter that all of these rows say."""

    def attempt(folder: Path) -> None:
        found = _read(f"{header}\n{cells}\n", (None, *header.split(",")), **said)(folder)
        np.testing.assert_allclose([found.lat[0], found.lon[0], found.diameter[0]], WANTED, atol=1e-9)

    return attempt


def _count(wanted: int, text: str, *names: Any, **more: Any) -> Callable[[Path], None]:
    def attempt(folder: Path) -> None:
        assert len(_read(text, *names, **more)(folder)) == wanted

    return attempt


def _specks(folder: Path) -> None:
    from crater_ray_mosaic.mosaic import mosaic
    from inputs.rasters import VALUES, write

    (folder / "c.csv").write_text("lat,lon,d\n1,2,1\n2,3,1.1\n")
    mosaic(
        raster=write(folder / "x.tif", VALUES),
        catalogue=folder / "c.csv",
        **{f"{name}_column": column for name, column in (("lat", "lat"), ("lon", "lon"), ("diameter", "d"))},
    ).parts()


_EMPTY = "id,lat,lon,d\nA,1,2,3\nB,1,1,0\nC,1,1,\nD,1,1,NA\nE,1,1,-9999\n"
_TWICE = "lat,lon,d\n1,2,3\n1,2,3\n1,2,4\n"
_BARE = (None, "lat", "lon", "d")
_METRES = "lat,lon,d\n" + "".join(f"{n - 20},{8 * n},{1000 + n}\n" for n in range(40))
_RADIANS = "lat,lon,d\n" + "".join(f"{n / 13 - 1.5},{n / 6.4 - 3.1},90\n" for n in range(40))

ROWS = (
    Row(
        "a diameter that is empty, 0, NA or -9999",
        "read: that row is skipped",
        _count(1, _EMPTY),
        "4 of 5 rows are skipped: 4 without a diameter",
    ),
    Row(
        "no ids, and a row given twice",
        "read: one crater",
        _count(2, _TWICE, _BARE),
        "1 of 3 rows are skipped: 1 the same crater as another row",
    ),
    Row(
        "`drop`, rows with a value",
        "read: without them",
        _count(1, "id,lat,lon,d\nA,1,2,3\nB,x,2,3\n", drop={"id": "B"}),
    ),
    Row(
        "a value of `drop` that no row has",
        "no row has 'Z' in column 'id', so nothing is dropped; it has 'A'",
        _read("id,lat,lon,d\nA,1,2,3\n", drop={"id": "Z"}),
    ),
    Row("header `Diameter_m`", "read: metres", _one("lat,lon,Diameter_m", "1.5,2.5,3000")),
    Row("header `RADIUS`", "read: doubled", _one("lat,lon,RADIUS", "1.5,2.5,1.5")),
    Row("header `Lon_W`", "read: turned to east", _one("lat,Lon_W,d", "1.5,357.5,3")),
    Row(
        "header `lon [rad]`",
        "read: as radians",
        _one("lat [rad],lon [rad],d", f"{math.radians(1.5)},{math.radians(2.5)},3"),
    ),
    Row(
        "header `Latitude (planetographic)`",
        "read: converted by the body's flattening",
        _one("Latitude (planetographic),lon,d"),
    ),
    Row("`west_positive = true`", "read", _one("lat,lon,d", "1.5,-2.5,3", west_positive=True)),
    Row('`diameter_unit = "m"`', "read", _one("lat,lon,d", "1.5,2.5,3000", diameter_unit="m")),
    Row('`diameter_is = "radius"`', "read", _one("lat,lon,d", "1.5,2.5,1.5", diameter_is="radius")),
    Row('`latitude = "planetographic"`', "read", _one("lat,lon,d", latitude="planetographic")),
    Row(
        "header `Diameter (pix)`",
        "is in pixels; give diameters in kilometres or",
        _one("lat,lon,Diameter (pix)"),
    ),
    *(
        Row(
            f"header `{header}` and `{said} = {value!r}`".replace("'", '"'),
            line,
            _one(names, **{said: value}),
        )
        for header, said, value, line, names in (
            (
                "Diameter_m",
                "diameter_unit",
                "km",
                "says m, and option diameter_unit says km",
                "lat,lon,Diameter_m",
            ),
            (
                "RADIUS",
                "diameter_is",
                "diameter",
                "says radius, and option diameter_is says",
                "lat,lon,RADIUS",
            ),
            (
                "lon_e180",
                "west_positive",
                True,
                "says longitudes east, and option west_positive",
                "lat,lon_e180,d",
            ),
            ("lat_deg", "angle_unit", "rad", "says deg, and option angle_unit says rad", "lat_deg,lon,d"),
        )
    ),
    Row("metres without a word of it", 'is it diameter_unit = "m"', _read(_METRES, _BARE)),
    Row("radians without a word of it", 'look like radians; give angle_unit = "rad"', _read(_RADIANS, _BARE)),
    Row("craters smaller than a pixel", "and a pixel of x.tif is", _specks),
)
