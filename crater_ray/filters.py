"""Filters over the items' own columns, as a mask of rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from crater_ray.bodies import distance_km, radius_km
from crater_ray.errors import QueryError
from crater_ray.request import Box, Filter, Near

LAT, LON, BODY = "lat", "lon", "body"
HIDDEN = ("uri", "stamp")  # the reader's own affair
FIXED = ("id", "group", *HIDDEN)
Array = np.ndarray[Any, Any]


def own_columns(names: Iterable[str]) -> list[str]:
    """The columns that the reader gave its items."""
    return [name for name in names if name not in FIXED]


def mask(
    table: pa.Table, filters: Sequence[Filter], box: Box | None, near: Near | None = None
) -> Array | None:
    """(N,) bool, which items pass; None: all of them. An item without a value passes no filter over it.

    Raises QueryError for a column that is not there, a value of another type than the column's, and with
    `near` for items of no body whose size is known.
    """
    kept: Array | None = None
    for one in filters:
        kept = _and(kept, _passes(_column(table, one.column), one))
    if box is not None:
        lat, lon = (_numbers(_column(table, name), name) for name in (LAT, LON))
        inside = (lat >= box.south) & (lat <= box.north)
        if box.east - box.west < 360:
            inside &= (lon - box.west) % 360 <= (box.east - box.west) % 360
        kept = _and(kept, inside & np.isfinite(lat) & np.isfinite(lon))
    if near is not None:
        lat, lon = (_numbers(_column(table, name), name) for name in (LAT, LON))
        away = distance_km(near.lat, near.lon, lat, lon, _radii(table))
        kept = _and(kept, away <= near.km)  # False for NaN
    return kept


def _radii(table: pa.Table) -> Array:
    """(N,) kilometres, of each item's body; NaN where the IAU has none of its name."""
    if BODY not in table.column_names:
        raise QueryError("near is in kilometres, and no column 'body' says of which body; use box")
    found = table.column(BODY).cast(pa.string()).combine_chunks().dictionary_encode()
    bodies = found.dictionary.to_pylist()
    known = [radius_km(body) for body in bodies]
    if bodies and not any(known):
        raise QueryError(f"near is in kilometres, and the IAU knows no body {bodies[0]!r}; use box")
    radii = np.array([np.nan if radius is None else radius for radius in [*known, None]])
    return radii[np.asarray(found.indices.fill_null(len(bodies)).to_numpy(zero_copy_only=False), np.int64)]


def _and(first: Array | None, second: Array) -> Array:
    return second if first is None else first & second


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    there = [column for column in table.column_names if column not in HIDDEN]
    if name not in there:
        raise QueryError(f"no column {name!r}; there are: {', '.join(there)}")
    return table.column(name)


def _passes(column: pa.ChunkedArray, one: Filter) -> Array:
    if one.any_of is None:
        values = _numbers(column, one.column)
        low = -math.inf if one.min is None else one.min
        high = math.inf if one.max is None else one.max
        inside: Array = (values >= low) & (values <= high)  # False for NaN
        return inside
    wanted = pa.array([_value(column, one.column, value) for value in one.any_of], column.type)
    return np.asarray(pc.is_in(column, value_set=wanted).to_numpy(), bool)


def _value(column: pa.ChunkedArray, name: str, value: str | int | float) -> pa.Scalar:
    try:
        found = pa.scalar(value).cast(column.type)
        if pa.types.is_floating(column.type) and math.isnan(found.as_py()):
            raise TypeError("not a number")
        return found
    except (pa.ArrowException, TypeError):
        ranged = f'; a range is min and max, as in --filter "{name}=5:20"' if numeric(column.type) else ""
        raise QueryError(f"column {name!r} holds {_kind(column.type)}, not {value!r}{ranged}") from None


def _numbers(column: pa.ChunkedArray, name: str) -> Array:
    if not numeric(column.type):
        raise QueryError(
            f"column {name!r} holds {_kind(column.type)}, so it has no min and max; "
            f'name values by any_of, as in --filter "{name}=a,b"'
        )
    return np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)  # null: NaN


def numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "whole numbers"
    return "numbers" if numeric(kind) else "text" if is_text(kind) else str(kind)
