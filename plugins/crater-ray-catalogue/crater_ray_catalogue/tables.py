"""Tables as GIS programs open them: one GeoPackage with a layer a table, and a CSV each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import geopandas
import pandas as pd
from pyproj import CRS

from crater_ray_catalogue.stage import write_atomically


def write_tables(out: Path, name: str, tables: Mapping[str, pd.DataFrame], crs: CRS) -> Path:
    """out/<name>.gpkg with every table as a layer of points at (lat, lon), and out/<table>.csv."""
    for layer, table in tables.items():
        write_atomically(out / f"{layer}.csv", lambda path, table=table: table.to_csv(path, index=False))  # type: ignore[misc]

    def write(path: Path) -> None:
        for layer, table in tables.items():
            points = geopandas.points_from_xy(table["lon"], table["lat"], crs=crs)
            frame = geopandas.GeoDataFrame(table, geometry=points)
            frame.to_file(path, layer=layer, driver="GPKG", engine="pyogrio")

    return write_atomically(out / f"{name}.gpkg", write)
