"""Views out of a table: view_id, crater_id, role, lat, lon or lon_e180, half_width_km, sun_azimuth_deg …"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from crater_ray.errors import ReaderError
from crater_ray_mosaic.pose import Pose, wrapped
from crater_ray_mosaic.views import View

_NUMBERS = ("lat", "lon", "half_width_km")
_SUN = ("sun_azimuth_deg", "sun_elevation_deg")


def read_poses(path: Path, role: str | None, shaded: bool) -> list[View]:
    """The views of one role (None: all), sorted by id. Without sun columns the reader's own sun shines.

    Raises ReaderError for a missing file or column, a cell that is not a number, a role that no row has, or a
    view id that comes twice.
    """
    try:
        table = pa_csv.read_csv(
            path,
            convert_options=pa_csv.ConvertOptions(
                column_types={"view_id": pa.string(), "crater_id": pa.string(), "role": pa.string()}
            ),
        )
    except OSError as error:
        raise ReaderError(f"cannot read the poses {path}: {error.strerror or error}") from None
    except pa.ArrowInvalid as error:
        raise ReaderError(f"{path.name} is not a CSV table: {error}") from None
    if "lon" not in table.column_names and "lon_e180" in table.column_names:
        table = table.rename_columns(["lon" if name == "lon_e180" else name for name in table.column_names])
    sun = shaded and _SUN[0] in table.column_names
    for name in ("view_id", "crater_id", *_NUMBERS, *(_SUN if sun else ()), *(("role",) if role else ())):
        if name not in table.column_names:
            raise ReaderError(f"{path.name} has no column {name!r}; it has {', '.join(table.column_names)}")
        bad = table[name].null_count if name not in (*_NUMBERS, *_SUN) else _not_numbers(table[name])
        if bad:
            raise ReaderError(
                f"{path.name}: {bad} of {table.num_rows} cells of column {name!r} are empty or no numbers"
            )
    rows = table.to_pylist()
    if role is not None:
        roles = sorted({row["role"] for row in rows})
        rows = [row for row in rows if row["role"] == role]
        if not rows:
            raise ReaderError(f"{path.name} has no row of role {role!r}; its roles: {', '.join(roles)}")
    twice = [name for name, count in Counter(row["view_id"] for row in rows).items() if count > 1]
    if twice:
        raise ReaderError(f"{path.name} has {len(twice)} view id(s) more than once, among them {twice[0]!r}")
    wrong = next((row for row in rows if not (abs(row["lat"]) <= 90 and row["half_width_km"] > 0)), None)
    if wrong:
        raise ReaderError(
            f"{path.name}: view {wrong['view_id']!r} is not on the globe (lat {wrong['lat']}, "
            f"half width {wrong['half_width_km']} km)"
        )
    views = []
    for row in rows:
        light = (row[_SUN[0]], row[_SUN[1]]) if sun else (None, None)
        pose = Pose(row["lat"], wrapped(row["lon"]), row["half_width_km"], *light)
        views.append(View(row["view_id"], row["crater_id"], pose, None))
    return sorted(views, key=lambda view: view.id)


def _not_numbers(column: pa.ChunkedArray) -> int:
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        return len(column)
    return sum(value is None or value != value for value in column.to_pylist())
