"""Places and diameters of a table's rows, by their columns or by their geometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crater_ray.errors import ReaderError
from crater_ray_mosaic.catalogue import conventions
from crater_ray_mosaic.catalogue.conventions import Conventions
from crater_ray_mosaic.catalogue.craters import Floats
from crater_ray_mosaic.catalogue.numbers import Numbers, decimal_mark, numbers
from crater_ray_mosaic.catalogue.plausible import refuse, refuse_places
from crater_ray_mosaic.catalogue.presets import Columns
from crater_ray_mosaic.catalogue.table import Table
from crater_ray_mosaic.catalogue.vector import Outlines

APART = 1.0  # degrees between a layer's geometry and its lat and lon columns, in the median at most


@dataclass(frozen=True, slots=True)
class Body:
    """What the raster says of the body: planetographic latitudes and outlines need it."""

    radius_km: float
    flattening: float | None = None  # None: nobody says


def marks(table: Table, columns: Columns, keep: NDArray[np.bool_], file: str) -> str:
    """What stands before decimals."""
    named = [table.columns[name] for name in (columns.lat, columns.lon, columns.diameter) if name]
    if not any("," in "\n".join(map(str, cells)) for cells in named if not isinstance(cells, np.ndarray)):
        return "."
    angles = [_some(table, name, keep) for name in (columns.lat, columns.lon) if name]
    return decimal_mark(angles, [_some(table, columns.diameter, keep)] if columns.diameter else [], file)


def _some(table: Table, name: str, keep: NDArray[np.bool_]) -> Sequence[Any]:
    cells = table.columns[name]
    if keep.all():
        return cells
    return (
        cells[keep]
        if isinstance(cells, np.ndarray)
        else [cells[row] for row in np.flatnonzero(keep).tolist()]
    )


def places(
    table: Table,
    columns: Columns,
    said: Conventions,
    preset_west: bool | None,
    shape: Outlines | None,
    body: Body | None,
    keep: NDArray[np.bool_],
    mark: str,
    file: str,
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """lat, lon (M,) of the kept rows, and which rows have a place."""
    if columns.lat is None or columns.lon is None:
        if shape is None or body is None:
            raise ReaderError(f"{file}: option lat_column is required")
        lat, lon = shape.lat[keep], shape.lon[keep]
        if said.latitude != "planetocentric":
            lat = conventions.planetocentric(lat, shape.flattening)
        if said.west_positive:
            lon = -lon
        return lat, (lon + 180.0) % 360.0 - 180.0, ~shape.refused[keep]
    north = numbers(_some(table, columns.lat, keep), ("n", "s"), mark)
    east = numbers(_some(table, columns.lon, keep), ("e", "w"), mark)
    for name, found in ((columns.lat, north), (columns.lon, east)):
        refuse(~np.isfinite(found.values), name, "not numbers", file, found.texts)
    lat = conventions.angles(north.values, columns.lat, table.unit(columns.lat), said, file)
    unit = table.unit(columns.lon)
    refuse_places(
        lat, conventions.angles(east.values, columns.lon, unit, said, file), columns.lat, columns.lon, file,
        stated=said.angle_unit is not None,
    )  # fmt: skip
    lon = conventions.east_longitudes(east.values, east.lettered, columns.lon, unit, said, preset_west, file)
    if conventions.is_planetographic(columns.lat, table.unit(columns.lat), said, file):
        lat = conventions.planetocentric(lat, _flattening(said, body, columns.lat, file))
    return lat, lon, np.ones(len(lat), bool)


def _flattening(said: Conventions, body: Body | None, name: str, file: str) -> float:
    found = said.flattening if said.flattening is not None else body.flattening if body else None
    if found is None:
        raise ReaderError(
            f"{file}: latitudes of column {name!r} are planetographic, and neither the raster's CRS nor PROJ "
            "says how flat the body is; give option body, or flattening"
        )
    return found


def diameters(
    table: Table,
    columns: Columns,
    said: Conventions,
    preset_unit: str | None,
    shape: Outlines | None,
    keep: NDArray[np.bool_],
    mark: str,
    file: str,
) -> tuple[Floats, str | None, str]:
    """(M,) km, NaN where a row has none; the unit that anything states; what the column is called."""
    name = columns.diameter
    if name is None:
        if shape is None or not np.isfinite(shape.diameter[keep]).any():
            raise ReaderError(
                f"{file} has no outlines to take diameters from; option diameter_column is required"
            )
        return shape.diameter[keep], "km", "geometry"
    found: Numbers = numbers(_some(table, name, keep), ("km", "m"), mark)
    refuse(~np.isfinite(found.values) & (found.empty == 0), name, "not numbers", file, found.texts)
    diameter, stated = conventions.kilometres(
        found.values, found.lettered, name, table.unit(name), said, preset_unit, file
    )
    return diameter, stated, name


def compare(
    lat: Floats,
    lon: Floats,
    shape: Outlines,
    keep: NDArray[np.bool_],
    good: NDArray[np.bool_],
    file: str,
) -> None:
    """Raises ReaderError where a layer's columns and its geometry say different places."""
    both = good & ~shape.refused[keep]
    if not both.any():
        return
    phi, other = np.radians(lat[both]), np.radians(shape.lat[keep][both])
    turn = np.radians(lon[both] - shape.lon[keep][both])
    away = np.hypot(phi - other, ((turn + np.pi) % (2 * np.pi) - np.pi) * np.cos(phi))
    if float(np.degrees(np.median(away))) > APART:
        raise ReaderError(
            f"{file}: its columns and its geometry say different places, {np.degrees(np.median(away)):.3g}° "
            "apart in the median; check lat_column, lon_column and west_positive, or name none to take the"
            " geometry"
        )
