"""Tables as GIS programs open them: one GeoPackage with a layer a table, and a CSV each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import geopandas
import pandas as pd
from pyproj import CRS

from crater_ray.files import whole_file


def write_tables(out: Path, name: str, tables: Mapping[str, pd.DataFrame], crs: CRS) -> Path:
    """out/<name>.gpkg with every table as a layer of points at (lat, lon), and out/<table>.csv."""
    for layer, table in tables.items():
        with whole_file(out / f"{layer}.csv") as own:
            table.to_csv(own, index=False)
    path = out / f"{name}.gpkg"
    with whole_file(path) as own:
        for layer, table in tables.items():
            points = geopandas.points_from_xy(table["lon"], table["lat"], crs=crs)
            frame = geopandas.GeoDataFrame(table, geometry=points)
            frame.to_file(own, layer=layer, driver="GPKG", engine="pyogrio")
    return path
