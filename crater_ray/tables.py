"""Rows as files that a program of tables or of maps opens; geopandas only where a map is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from crater_ray.bodies import body_name, crs_of
from crater_ray.errors import QueryError
from crater_ray.files import refuse_out, whole_file
from crater_ray.types import place_of

if TYPE_CHECKING:
    import pandas as pd
    from geopandas import GeoDataFrame

SUFFIXES = (".csv", ".parquet", ".geojson", ".gpkg")
GIS = "python -m pip install 'crater-ray[gis]'"
OWN = ("query", "rank", "score", "id", "group", "distance_km", "fid", "geom", "geometry")  # no reader's


def refuse_suffix(path: Path) -> None:
    """Raises QueryError for a file of another kind than those of `write`, UserError as `refuse_out`."""
    refuse_out(path)
    if path.suffix.lower() not in SUFFIXES:
        raise QueryError(f"{path}: name a file that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    if path.suffix.lower() in SUFFIXES[2:]:
        _geopandas(path.suffix)


def renamed(names: Sequence[str]) -> list[str]:
    """A reader's columns beside ours: `item_…` where one is called as ours, or as another but for its case.

    A GeoPackage does not tell Lat from lat.
    """
    found: list[str] = []
    taken = set(OWN)
    for name in names:
        while name.lower() in taken:
            name = f"item_{name}"
        taken.add(name.lower())
        found.append(name)
    return found


def write(path: Path, table: pa.Table, layer: str = "hits", bodies: Sequence[object] = ()) -> Path:
    """The path of a file of rows, by its suffix. GeoPackages have a layer a body.

    `bodies`: those of a table without rows. Raises QueryError for another suffix, rows without a place in a
    file of places, several bodies in a GeoJSON; UserError as `refuse_out`; StorageFull.
    """
    refuse_suffix(path)
    kind = path.suffix.lower()
    with whole_file(path) as own:
        if kind == ".csv":
            pyarrow.csv.write_csv(_plain(table), own)
        elif kind == ".parquet":
            pq.write_table(table, own)
        elif kind == ".geojson":
            if len(_bodies(table)) > 1:
                raise QueryError(
                    f"{path}: a GeoJSON has one coordinate system, and these lie on several bodies; "
                    "name a .gpkg file, or keep one body with --filter"
                )
            _draw(points(_plain(table), bodies), own, layer, "GeoJSON")
        else:
            _layers(table, own, layer, bodies)
    return path


def _layers(table: pa.Table, path: Path, layer: str, bodies: Sequence[object]) -> None:
    """A GeoPackage: `layer`, or of several bodies `layer_moon` and so on, `layer` of none that is named."""
    _refuse_no_place(table)
    rows = _body_column(table)
    names = list(dict.fromkeys(rows)) or [None]
    for body in names:
        some = table.filter(pa.array([one == body for one in rows], pa.bool_()))
        name = layer if len(names) == 1 or body is None else f"{layer}_{body}"
        _draw(_points(_plain(some), [body] if rows else bodies), path, name, "GPKG")


def _draw(points: GeoDataFrame, path: Path, layer: str, driver: str) -> None:
    """One layer of a file. Of a body that the IAU does not know it has no coordinate system."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")
        points.to_file(path, layer=layer, driver=driver, engine="pyogrio", geometry_type="Point")


def frame(table: pa.Table) -> pd.DataFrame:
    """A row a row. Raises QueryError without pandas."""
    try:
        import pandas  # noqa: F401  which Arrow makes frames of
    except ImportError:
        raise QueryError(f"a data frame needs pandas: {GIS}") from None
    found: pd.DataFrame = table.to_pandas()
    return found


def points(table: pa.Table, bodies: Sequence[object] = ()) -> GeoDataFrame:
    """Each row a point at its `lat` and `lon`, in the IAU's coordinates of the body; of several without CRS.

    `bodies`: those of a table without rows.
    Raises QueryError without geopandas, or where no row has a place.
    """
    _geopandas("a GeoDataFrame")
    _refuse_no_place(table)
    return _points(table, _bodies(table) if len(table) else bodies)


def _points(table: pa.Table, bodies: Sequence[object]) -> GeoDataFrame:
    geopandas = _geopandas("a GeoDataFrame")
    places = _places(table)
    lats, lons = ([0.0 if place is None else place[at] for place in places] for at in (0, 1))
    crs = crs_of(bodies[0]) if len(bodies) == 1 else None
    there = np.array([place is not None for place in places], bool)
    shapes = geopandas.GeoSeries(geopandas.points_from_xy(lons, lats), crs=crs).where(there, None)
    found: GeoDataFrame = geopandas.GeoDataFrame(frame(table), geometry=shapes, crs=crs)
    return found


def _refuse_no_place(table: pa.Table) -> None:
    if len(table) and not any(_places(table)):
        raise QueryError(
            "the items have no columns lat and lon: they are points of no map; use .csv or .parquet"
        )


def _places(table: pa.Table) -> list[tuple[float, float] | None]:
    if not {"lat", "lon"} <= set(table.column_names):
        return [None] * len(table)
    return [place_of(row) for row in table.select(["lat", "lon"]).to_pylist()]


def _body_column(table: pa.Table) -> list[str | None]:
    """The body of each row in small letters; None where none is named."""
    if "body" not in table.column_names:
        return [None] * len(table)
    return [body_name(body) for body in table.column("body").to_pylist()]


def _bodies(table: pa.Table) -> list[str | None]:
    """The bodies that rows with a place lie on."""
    there = zip(_body_column(table), _places(table), strict=True)
    return list(dict.fromkeys(body for body, place in there if place is not None))


def _plain(table: pa.Table) -> pa.Table:
    """With lists, structs and the like as text: files of text and of maps have no such columns."""
    for at, field in enumerate(table.schema):
        if pa.types.is_nested(field.type) or pa.types.is_binary(field.type):
            texts = [None if value is None else str(value) for value in table.column(at).to_pylist()]
            table = table.set_column(at, field.name, pa.array(texts, pa.string()))
    return table


def _geopandas(what: str) -> Any:
    try:
        import geopandas
        import pyogrio  # noqa: F401  its drivers write the files
    except ImportError:
        raise QueryError(f"{what} needs geopandas: {GIS}") from None
    return geopandas
