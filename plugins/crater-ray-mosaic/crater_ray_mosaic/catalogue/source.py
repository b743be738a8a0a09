"""Which columns and rows of a file are a catalogue."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crater_ray.errors import ReaderError
from crater_ray_mosaic.catalogue import headers
from crater_ray_mosaic.catalogue.presets import Columns
from crater_ray_mosaic.catalogue.table import Table, read_table
from crater_ray_mosaic.catalogue.text import shown
from crater_ray_mosaic.catalogue.vector import SUFFIXES


def chosen(path: Path, columns: Columns, layer: str | None, drop: Mapping[str, str]) -> tuple[Table, Columns]:
    """The file, and the names of its columns: None where the geometry says it.

    Warns of a preset's ids that the file lacks, and says what is read instead.
    """
    roles = {"lat": columns.lat, "lon": columns.lon, "diameter": columns.diameter}
    numeric = [name for name in roles.values() if name]
    loose = columns.recognise or (columns.published and path.suffix.lower() in SUFFIXES)
    ids = [columns.id] if columns.id else []
    strict = [*ids, *numeric] if not loose else []
    table = read_table(
        path, [*strict, *drop], optional=[*ids, *numeric], numeric=numeric, layer=layer
    )  # the drop columns as text
    if loose:
        found = {
            role: name if name in table.columns else _recognised(table, columns, role, name)
            for role, name in roles.items()
        }
        own = columns.id if columns.id in table.columns else None
        if columns.id and not own and table.layer is None:
            told = ", ".join(f"{name!r} as {role}" for role, name in found.items())
            warnings.warn(
                f"{table.file} has no column {columns.id!r}, so craters are named by their place; it is read "
                f"with {told}; give another preset, or id_column",
                stacklevel=2,
            )
        strictly = Columns(own, found["lat"], found["lon"], found["diameter"])
        return chosen(path, strictly, layer, drop)
    if table.layer is None and (missing := [role for role, name in roles.items() if name is None]):
        raise ReaderError(f"{path.name} is no vector layer: option {missing[0]}_column is required")
    return table, columns


def _recognised(table: Table, columns: Columns, role: str, name: str | None) -> str | None:
    """The column that a header says is of the role; None where the geometry is to say it."""
    found = headers.recognised(table.header, role) if columns.recognise else None
    if found is None and table.layer is None:
        raise ReaderError(
            f"{table.file} has no column {name!r}; it has {shown(table.header)}; name its {role} with option "
            f"{role}_column"
        )
    return found


def kept(table: Table, drop: Mapping[str, str]) -> NDArray[np.bool_]:
    """(N,) the rows that no value of `drop` is in."""
    keep = np.ones(len(table), bool)
    for column, value in drop.items():
        cells = table.text(column)
        gone = np.array([cell == value.strip() for cell in cells], bool)
        if not gone.any():
            there = ", ".join(f"{one[:40]!r}" for one, _ in Counter(cells).most_common(5))
            raise ReaderError(
                f"{table.file}: no row has {value!r} in column {column!r}, so nothing is dropped; "
                f"it has {there}"
            )
        keep &= ~gone
    return keep
