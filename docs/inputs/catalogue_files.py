"""Catalogues that are no text: vector layers, workbooks, Parquet, and files that are none."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inputs.row import Row

RADIUS = 1737.4
SPHERE = "+proj=longlat +R=1737400 +no_defs"
BARE = (None, None, None, None)


def _read(path: Path, columns: Sequence[str | None] = BARE, radius: float = RADIUS, **more: Any) -> Any:
    from crater_ray_mosaic.catalogue import Columns, read_catalogue
    from crater_ray_mosaic.catalogue.measures import Body

    return read_catalogue(path, Columns(*columns), body=Body(radius, 0.0), **more)


def _rim(lat: float = 10.0, lon: float = 20.0, diameter: float = 100.0) -> Any:
    from shapely import Polygon

    angle, turn = diameter / 2 / RADIUS, np.linspace(0, 2 * np.pi, 180, endpoint=False)
    phi = np.radians(lat)
    rim = np.arcsin(np.sin(phi) * np.cos(angle) + np.cos(phi) * np.sin(angle) * np.cos(turn))
    east = np.arctan2(np.sin(turn) * np.sin(angle) * np.cos(phi), np.cos(angle) - np.sin(phi) * np.sin(rim))
    return Polygon(np.column_stack([lon + np.degrees(east), np.degrees(rim)]))


def _save(path: Path, shapes: list[Any], crs: str | None = SPHERE, columns: Any = None, **more: Any) -> Path:
    import warnings

    from geopandas import GeoDataFrame

    with warnings.catch_warnings(action="ignore"):  # a layer without a CRS
        GeoDataFrame(columns or {"d": [100.0] * len(shapes)}, geometry=shapes, crs=crs).to_file(path, **more)
    return path


def _holds(found: Any, lat: float = 10.0, lon: float = 20.0, diameter: float = 100.0) -> None:
    np.testing.assert_allclose([found.lat[0], found.lon[0]], [lat, lon], atol=3e-3)
    np.testing.assert_allclose(found.diameter[0], diameter, rtol=1e-3)


def _outlines(name: str, crs: str = SPHERE) -> Callable[[Path], None]:
    return lambda folder: _holds(_read(_save(folder / name, [_rim()], crs)))


def _points(folder: Path) -> None:
    from shapely import Point

    _holds(_read(_save(folder / "p.gpkg", [Point(20, 10)]), (None, None, None, "d")))


def _points_without_diameters(folder: Path) -> None:
    from shapely import Point

    _read(_save(folder / "p.gpkg", [Point(20, 10)]))


def _line(folder: Path) -> None:
    from shapely import LineString

    _holds(_read(_save(folder / "p.gpkg", [LineString(_rim().exterior.coords)])))


def _cut(folder: Path) -> None:
    from shapely import MultiPolygon, box, transform

    rim = _rim(lon=180.0)
    west = rim.intersection(box(0, -90, 180, 90))
    east = transform(rim.intersection(box(180, -90, 360, 90)), lambda at: at - [360.0, 0.0])
    found = _read(_save(folder / "p.gpkg", [MultiPolygon([west, east])]))
    assert abs(abs(found.lon[0]) - 180) < 3e-3
    np.testing.assert_allclose(found.diameter[0], 100, rtol=1e-3)


def _projected(folder: Path) -> None:
    from geopandas import GeoSeries

    polar = "+proj=stere +lat_0=90 +R=1737400 +units=m +no_defs"
    _holds(_read(_save(folder / "p.gpkg", list(GeoSeries([_rim()], crs=SPHERE).to_crs(polar)), polar)))


def _no_outline(folder: Path) -> None:
    from shapely import LineString, MultiPoint

    shapes = [_rim(), None, MultiPoint([(1, 2), (3, 4)]), LineString([(1, 2), (3, 4), (5, 0)])]
    assert len(_read(_save(folder / "p.geojson", shapes, "EPSG:4326"))) == 1


def _two_layers(folder: Path, **more: Any) -> None:
    path = _save(folder / "p.gpkg", [_rim()], layer="rims")
    _holds(_read(_save(path, [_rim()], layer="others"), **more))


def _alone(suffix: str) -> Callable[[Path], None]:
    def attempt(folder: Path) -> None:
        path = _save(folder / "p.shp", [_rim()])
        path.with_suffix(suffix).unlink()
        _read(path)

    return attempt


def _metres(folder: Path) -> None:
    from shapely import Point

    _read(_save(folder / "p.shp", [Point(600_000, 300_000)], None), (None, None, None, "d"))


def _two_places(folder: Path) -> None:
    from shapely import Point

    columns = {"lat": [10.0], "lon": [-20.0], "d": [100.0]}
    _read(_save(folder / "p.gpkg", [Point(20, 10)], columns=columns), (None, "lat", "lon", "d"))


def _parquet(folder: Path) -> None:
    import pandas as pd

    table = pd.DataFrame({"id": [7], "lat": [10.0], "lon": [20.0], "Diameter_m": [100_000]})
    table.to_parquet(folder / "c.parquet")
    _holds(_read(folder / "c.parquet", ("id", "lat", "lon", "Diameter_m")))


def book(path: Path, *sheets: Sequence[Sequence[Any]], values: str = "100") -> Path:
    """A workbook of some sheets. values: what stands in it for the value of a formula, "" for none."""
    from openpyxl import Workbook

    made = Workbook()
    made.remove(made.active)
    for number, rows in enumerate(sheets, 1):
        sheet = made.create_sheet(f"part {number}")
        for row in rows:
            sheet.append(row)
    made.save(path)
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in parts.items():
            file.writestr(
                name,
                content.replace(b"<v></v>", f"<v>{values}</v>".encode()).replace(
                    b"<v />", f"<v>{values}</v>".encode()
                ),
            )
    return path


HEADER = ["id", "lat", "lon", "d"]
NAMES = ("id", "lat", "lon", "d")
TITLED = [["Table S1"], [], HEADER, [None, "deg", "deg", "km"], [7, 10, 20, 100]]


def _book(*sheets: Sequence[Sequence[Any]], values: str = "100", **more: Any) -> Callable[[Path], None]:
    return lambda folder: _holds(_read(book(folder / "c.xlsx", *sheets, values=values), NAMES, **more))


def _bytes(name: str, content: bytes) -> Callable[[Path], None]:
    def attempt(folder: Path) -> None:
        (folder / name).write_bytes(content)
        _read(folder / name, NAMES)

    return attempt


ROWS = (
    *(
        Row(f"outlines in {kind}", "read: place and diameter of the outline", _outlines(name, crs))
        for kind, name, crs in (
            ("GeoPackage", "p.gpkg", SPHERE),
            ("a shapefile", "p.shp", SPHERE),
            ("FlatGeobuf", "p.fgb", SPHERE),
            ("GeoJSON, which can only be labelled WGS 84", "p.geojson", "EPSG:4326"),
        )
    ),
    Row("points and a column of diameters", "read", _points),
    Row(
        "points alone",
        "no outlines to take diameters from; option diameter_column",
        _points_without_diameters,
    ),
    Row("closed lines", "read: as outlines", _line),
    Row("outlines cut at ±180°", "read: as one crater", _cut),
    Row("a projected CRS of the raster's body", "read: through pyproj", _projected),
    Row(
        "a CRS of another body",
        "of a body of 3,396.2 km, and the raster's has a radius of 1,737.4 km",
        _outlines("p.gpkg", "+proj=longlat +R=3396190 +no_defs"),
    ),
    Row(
        "no geometry, several points, an open line",
        "read: those features are skipped",
        _no_outline,
        "3 of 4 rows are skipped: 3 without a point or an outline",
    ),
    Row("several layers", "2 layers (rims, others); choose one with option layer", _two_layers),
    Row("several layers and `layer`", "read", lambda folder: _two_layers(folder, layer="rims")),
    Row("a `layer` that is not there", "no layer 'x'; it has", lambda folder: _two_layers(folder, layer="x")),
    *(
        Row(f"a shapefile without its {suffix}", f"lies without p{suffix}: a shapefile is", _alone(suffix))
        for suffix in (".shx", ".dbf")
    ),
    Row("metres without a CRS", "not in degrees, and no CRS says in what", _metres),
    Row("columns and geometry that differ", "columns and its geometry say different places", _two_places),
    Row("Parquet", "read", _parquet),
    Row(
        "Excel (`.xlsx`), with a title and a row of units",
        "read: with crater-ray-mosaic[excel]",
        _book(TITLED),
    ),
    Row("formulas in a workbook", "read: their values", _book([HEADER, [7, 10, 20, "=50*2"]])),
    Row(
        "formulas without values, as programs write them",
        "formulas without values; open it in a spreadsheet program and save it",
        _book([HEADER, [7, 10, 20, "=50*2"]], values=""),
    ),
    Row(
        "several sheets",
        "2 sheets with rows (part 1, part 2); choose one with option layer",
        _book(TITLED, TITLED),
    ),
    Row("several sheets and `layer`", "read", _book([["x"]], TITLED, layer="part 2")),
    Row(
        "a sheet that is not there",
        "no sheet 'x'; it has part 1",
        _book(TITLED, layer="x"),
    ),
    Row("an image, by any name", "c.csv is", _bytes("c.csv", b"\x89PNG\r\n\x1a\n" + bytes(99))),
    Row("an archive", "c.csv is", _bytes("c.csv", b"PK\x03\x04" + bytes(range(256)))),
    Row("a broken GeoPackage", "cannot be read as a vector layer", _bytes("c.gpkg", bytes(range(256)))),
    Row("a broken workbook", "cannot be read as a workbook", _bytes("c.xlsx", b"PK\x03\x04" + bytes(99))),
    Row("broken Parquet", "cannot be read as Parquet", _bytes("c.parquet", b"PAR1" + bytes(99))),
)
