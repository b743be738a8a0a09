"""Views out of a table: view_id, crater_id, role, lat, lon or lon_e180, half_width_km, sun_azimuth_deg …"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from crater_ray.errors import ReaderError
from crater_ray_mosaic.catalogue import numbers, read_table
from crater_ray_mosaic.catalogue.text import shown
from crater_ray_mosaic.pose import Pose, wrapped
from crater_ray_mosaic.views import View

_NUMBERS = ("lat", "lon", "half_width_km")
_SUN = ("sun_azimuth_deg", "sun_elevation_deg")


def read_poses(path: Path, role: str | None, shaded: bool) -> list[View]:
    """The views of one role (None: all), sorted by id. Without sun columns the reader's own sun shines.

    Raises ReaderError for a missing file or column, a cell that is not a number, a role that no row has, or a
    view id that comes twice.
    """
    table = read_table(
        path,
        ("view_id", "crater_id", "lat", "half_width_km", *(("role",) if role else ())),
        optional=("lon", "lon_e180", *(_SUN if shaded else ())),
        numeric=(*_NUMBERS, "lon_e180", *_SUN),
        what="poses",
        hint="a table of poses names its columns so",
    )
    sun = _SUN[0] in table.columns
    lon = "lon" if "lon" in table.columns else "lon_e180"
    missing = [
        name
        for name, there in (("lon", lon), (_SUN[1], _SUN[1] if sun else lon))
        if there not in table.columns
    ]
    if missing:
        raise ReaderError(f"{path.name} has no column {missing[0]!r}; it has {shown(table.header)}")
    cells: dict[str, list[Any]] = {}
    for name in ("view_id", "crater_id", *(("role",) if role else ())):
        cells[name] = table.text(name)
        _refuse(sum(not cell for cell in cells[name]), name, len(table), path)
    for name in ("lat", lon, "half_width_km", *(_SUN if sun else ())):
        values = numbers(table.columns[name]).values
        _refuse(int((~np.isfinite(values)).sum()), name, len(table), path)
        cells["lon" if name == lon else name] = values.tolist()
    rows = [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]
    if role is not None:
        roles = sorted({str(row["role"]) for row in rows})
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


def _refuse(bad: int, name: str, count: int, path: Path) -> None:
    if bad:
        raise ReaderError(f"{path.name}: {bad} of {count} cells of column {name!r} are empty or no numbers")
