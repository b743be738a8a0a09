"""The items' own columns as HTTP tells them: what a filter may name, and values as JSON has them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from crater_ray.filters import is_text, numeric, own_columns
from crater_ray.serve.models import Column, Value

FEW = 64  # values of a text column that are worth listing


def described(table: pa.Table) -> list[Column]:
    """The items' own columns, with what they hold."""
    return [_described(name, table.column(name)) for name in own_columns(table.column_names)]


def _described(name: str, column: pa.ChunkedArray) -> Column:
    if numeric(column.type):
        values = column.cast(pa.float64()).to_numpy()
        values = values[np.isfinite(values)]
        low, high = (float(values.min()), float(values.max())) if len(values) else (None, None)
        return Column(name=name, type="number", min=low, max=high)
    if pa.types.is_boolean(column.type):
        return Column(name=name, type="boolean")
    if is_text(column.type):
        distinct = sorted(value for value in pc.unique(column).to_pylist() if value is not None)
        return Column(name=name, type="text", values=distinct if len(distinct) <= FEW else None)
    return Column(name=name, type="other")


def together(first: Column, second: Column) -> Column:
    """One column of two shards."""
    lows = [value for value in (first.min, second.min) if value is not None]
    highs = [value for value in (first.max, second.max) if value is not None]
    values = None
    if first.values is not None and second.values is not None:
        values = sorted({*first.values, *second.values})
    return Column(
        name=first.name,
        type=first.type if first.type == second.type else "other",
        min=min(lows, default=None),
        max=max(highs, default=None),
        values=values if values is not None and len(values) <= FEW else None,
    )


def plain(value: Any) -> Value:
    """A column's value as JSON has it: no NaN, dates and the like as text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)
