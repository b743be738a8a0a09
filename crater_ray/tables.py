"""Rows as files that a program of tables or of maps opens; geopandas only where a map is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from crater_ray.bodies import crs_of
from crater_ray.errors import QueryError
from crater_ray.files import whole_file
from crater_ray.types import place_of

if TYPE_CHECKING:
    import pandas as pd
    from geopandas import GeoDataFrame

Rows = Sequence[Mapping[str, Any]]
FIRST = ("rank", "score", "id", "group")  # columns that even no row has
SUFFIXES = (".csv", ".parquet", ".geojson", ".gpkg")
GIS = "python -m pip install 'crater-ray[gis]'"


def refuse_suffix(path: Path) -> None:
    """Raises QueryError for a file of another kind than those that `write` knows, and for a folder."""
    if path.is_dir():
        raise QueryError(f"{path} is a folder; name a file")
    if path.suffix.lower() not in SUFFIXES:
        raise QueryError(f"{path}: name a file that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    if path.suffix.lower() in SUFFIXES[2:]:
        _geopandas(path.suffix)


def write(path: Path, rows: Rows, layer: str = "hits") -> Path:
    """The path of a file of rows, by its suffix. GeoPackages have a layer a body.

    Raises QueryError for another suffix, rows without a place in a file of places, several bodies in a
    GeoJSON; StorageFull.
    """
    refuse_suffix(path)
    kind = path.suffix.lower()
    with whole_file(path) as own:
        if kind == ".csv":
            pyarrow.csv.write_csv(_table(rows), own)
        elif kind == ".parquet":
            pq.write_table(_table(rows), own)
        elif kind == ".geojson":
            found = points(rows)
            if found.crs is None and len(_bodies(rows)) > 1:
                raise QueryError(
                    f"{path}: a GeoJSON has one coordinate system, and these lie on several bodies; "
                    "name a .gpkg file, or keep one body with --filter"
                )
            _draw(found, own, layer, "GeoJSON")
        else:
            bodies = _bodies(rows) or [None]
            for body in bodies:
                some = [row for row in rows if row.get("body") == body]
                name = layer if len(bodies) == 1 else f"{layer}_{body}"
                _draw(points(some), own, name, "GPKG")
    return path


def _draw(points: GeoDataFrame, path: Path, layer: str, driver: str) -> None:
    """One layer of a file. Of a body that the IAU does not know it has no coordinate system."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")
        points.to_file(path, layer=layer, driver=driver, engine="pyogrio")


def frame(rows: Rows) -> pd.DataFrame:
    """A row a row. Raises QueryError without pandas."""
    try:
        import pandas as pd
    except ImportError:
        raise QueryError(f"a data frame needs pandas: {GIS}") from None
    return pd.DataFrame([dict(row) for row in rows], columns=None if rows else list(FIRST))


def points(rows: Rows) -> GeoDataFrame:
    """Each row a point at its `lat` and `lon`, in the IAU's coordinates of the body; of several without CRS.

    Raises QueryError without geopandas, or where no row has a place.
    """
    geopandas = _geopandas("a GeoDataFrame")
    places = [place_of(row) for row in rows]
    if rows and not any(places):
        raise QueryError(
            "the items have no columns lat and lon: they are points of no map; use .csv or .parquet"
        )
    lats, lons = ([0.0 if place is None else place[at] for place in places] for at in (0, 1))
    bodies = _bodies(rows)
    crs = crs_of(bodies[0]) if len(bodies) == 1 else None
    there = [place is not None for place in places]
    shapes = geopandas.GeoSeries(geopandas.points_from_xy(lons, lats), crs=crs).where(there, None)
    found: GeoDataFrame = geopandas.GeoDataFrame(frame(rows), geometry=shapes, crs=crs)
    return found


def _bodies(rows: Rows) -> list[Any]:
    return list({row.get("body"): None for row in rows})


def _table(rows: Rows) -> pa.Table:
    names = list({name: None for row in rows for name in row}) or list(FIRST)
    return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})


def _geopandas(what: str) -> Any:
    try:
        import geopandas
        import pyogrio  # noqa: F401  its drivers write the files
    except ImportError:
        raise QueryError(f"{what} needs geopandas: {GIS}") from None
    return geopandas
