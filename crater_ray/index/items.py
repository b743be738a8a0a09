"""items.parquet: a reader's items as a table of its columns, and as the bytes of a file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crater_ray.errors import ReaderError
from crater_ray.index.parts import BASE_COLUMNS
from crater_ray.types import Item

_ROW_GROUP = 65_536


def items_schema(columns: pa.Schema) -> pa.Schema:
    """id, group, uri, stamp, then the reader's own columns. Raises ReaderError when a name is taken."""
    taken = [name for name in columns.names if name in BASE_COLUMNS] or [
        name for name in columns.names if columns.names.count(name) > 1
    ]
    if taken:
        raise ReaderError(f"the reader declares a column {taken[0]!r}, a name that is taken; rename it")
    base = [pa.field(name, pa.string(), nullable=False) for name in BASE_COLUMNS]
    return pa.schema([*base, *(pa.field(field.name, field.type) for field in columns)])


def items_table(items: Sequence[Item], schema: pa.Schema, part: str) -> pa.Table:
    """Rows of `items_schema`. Raises ReaderError for an item without an id, or that does not fit."""
    own_names = set(schema.names) - set(BASE_COLUMNS)
    for item in items:
        if not item.id:
            raise ReaderError(f"an item of part {part} has no id (uri {item.uri!r})")
        unknown = set(item.columns) - own_names
        if unknown:
            raise ReaderError(
                f"item {item.id!r} of part {part} has a column "
                f"{sorted(unknown)[0]!r} that the reader's `columns` lacks; add it there"
            )
    arrays = []
    for field in schema:
        own = field.name not in BASE_COLUMNS
        values = [item.columns.get(field.name) if own else getattr(item, field.name) for item in items]
        try:
            arrays.append(pa.array(values, type=field.type))
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            raise ReaderError(_misfit(part, field, items, values)) from None
    return pa.Table.from_arrays(arrays, schema=schema)


def items_file(table: pa.Table) -> memoryview:
    """The file's bytes, checksums of its pages inside: the same for the same rows."""
    memory = io.BytesIO()  # parquet seeks nowhere, but its errors would hide a full disk's
    pq.write_table(
        table.combine_chunks(),
        memory,
        row_group_size=_ROW_GROUP,
        compression="zstd",
        write_page_checksum=True,
    )
    return memory.getbuffer()


def _misfit(part: str, field: pa.Field, items: Sequence[Item], values: list[Any]) -> str:
    for item, value in zip(items, values, strict=True):
        try:
            pa.array([value], type=field.type)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            return (
                f"item {item.id!r} of part {part} has {field.name} = {value!r}, which is no "
                f"{field.type}; mend the catalogue or the reader's `columns`"
            )
    return f"part {part}: column {field.name!r} does not fit {field.type}"
