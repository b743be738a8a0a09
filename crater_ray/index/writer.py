"""Writes one part: into tmp/, then renamed into place, so that a part is there whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crater_ray.errors import DamagedIndex, ReaderError
from crater_ray.files import Stream, Sum, remove_folder, write_stream
from crater_ray.index.checksummed_json import checksummed
from crater_ray.index.config import IndexConfig
from crater_ray.index.parts import (
    BASE_COLUMNS,
    CODES,
    ITEMS,
    SCALES,
    VECTORS,
    Array,
    Member,
    PartEntry,
    Record,
    done,
    part_key,
)
from crater_ray.index.store import PART, Store, attempt
from crater_ray.types import Item

_COPIED = 4096  # rows in memory at once
_ROW_GROUP = 65_536


class PartWriter:
    """A part in the making. Codes go to the disk as they come; items, vectors and scales wait for `commit`.

    A context manager: without a commit its attempt is removed. `columns` is the reader's schema.
    Raises ReaderError for a bad part name, StorageFull, and OSError as it comes.
    """

    def __init__(self, store: Store, name: str, digest: str, config: IndexConfig, columns: pa.Schema) -> None:
        self._store, self._name, self._digest, self._config = store, name, digest, config
        self._key = part_key(name, digest)
        self._schema = items_schema(columns)
        self._tables: list[pa.Table] = []
        self._vectors: list[Array] = []
        self._scales: list[Array] = []
        self._skipped: dict[str, str] = {}
        self._rows = 0
        self._folder = attempt(self._store, f"{name}.{digest[:8]}")
        try:
            self._codes = Stream(self._folder / CODES)
        except BaseException:
            remove_folder(self._folder)
            raise

    def append(self, items: Sequence[Item], vectors: Array, codes: Array, scales: Array) -> None:
        """Rows in order: vectors (n, m, G) float16, codes (n, R) uint8, scales (n, s) float32.

        Raises ValueError for a wrong shape, type or a number that is not finite, ReaderError for an item
        without an id or with columns that do not fit the reader's schema, StorageFull.
        """
        self._check(vectors, codes, scales, len(items))
        if not len(items):
            return
        for name, array in (("vectors", vectors), ("scales", scales)):
            good = np.isfinite(array).reshape(len(items), -1).all(axis=1)
            if not good.all():
                raise ValueError(f"{name} of item {items[int(good.argmin())].id!r} are not finite: skip it")
        self._take(items_table(items, self._schema, self._name), vectors, codes, scales)

    def copy(self, table: pa.Table, vectors: Array, codes: Array, scales: Array) -> None:
        """Rows of a finished part, in order: its items() and arrays as in `append`, their checksums checked.

        Raises ValueError for a wrong shape or type, StorageFull.
        """
        self._check(vectors, codes, scales, len(table))
        for first in range(0, len(table), _COPIED):
            rows = slice(first, first + _COPIED)
            arrays = [column.combine_chunks() for column in table[rows].columns]
            self._take(pa.table(arrays, schema=self._schema), vectors[rows], codes[rows], scales[rows])

    def _check(self, vectors: Array, codes: Array, scales: Array, n: int) -> None:
        config = self._config
        _expect("vectors", vectors, (n, config.shortlist_m, config.shortlist_dim), np.float16)
        _expect("codes", codes, (n, config.record_bytes), np.uint8)
        _expect("scales", scales, (n, config.scales), np.float32)

    def _take(self, table: pa.Table, vectors: Array, codes: Array, scales: Array) -> None:
        self._codes.write(np.ascontiguousarray(codes))
        self._tables.append(table)
        self._vectors.append(np.array(vectors))  # a copy: callers reuse their buffers
        self._scales.append(np.array(scales))
        self._rows += len(table)

    def skip(self, id: str, reason: str) -> None:
        """Leaves an item out, for a reason that is kept in part.json."""
        self._skipped[id] = reason

    def commit(self, members: Sequence[Member] = ()) -> PartEntry:
        """The finished part; another driver's, of the same bytes, when it came first. Raises StorageFull.

        `members` are those of a compacted part, in the order of their rows.
        """
        config = self._config
        vector = config.shortlist_m, config.shortlist_dim
        files = {
            CODES: self._codes.close(),
            ITEMS: self._write_items(),
            VECTORS: self._write_array(VECTORS, self._vectors, vector, np.float16),
        }
        if config.scales:
            files[SCALES] = self._write_array(SCALES, self._scales, (config.scales,), np.float32)
        record = Record(
            self._name,
            self._digest,
            self._rows,
            vector,
            config.record_bytes,
            config.scales,
            files,
            dict(sorted(self._skipped.items())),
            tuple(members),
            self._store.commit_id(),
        )
        write_stream(self._folder / PART, checksummed(record.payload()))  # last: it tells of the others
        if self._store.publish(
            self._folder, self._key, PART, record.attempt, lambda: self._done() is not None
        ):
            return PartEntry(self._name, self._digest, self._rows, len(self._skipped))
        theirs = self._done()
        if theirs is None:
            raise DamagedIndex(f"{self._store.url}/{self._key} was removed while it was written; run again")
        return theirs

    def _done(self) -> PartEntry | None:
        return done(self._store, self._name, self._digest)

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._codes.__exit__(kind, value, trace)
        remove_folder(self._folder)  # gone already after a commit

    def _write_items(self) -> Sum:
        table = pa.concat_tables(self._tables) if self._tables else self._schema.empty_table()
        return write_stream(self._folder / ITEMS, items_file(table))

    def _write_array(self, name: str, chunks: list[Array], row: tuple[int, ...], kind: Any) -> Sum:
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(kind)),
            "fortran_order": False,
            "shape": (self._rows, *row),
        }
        with Stream(self._folder / name) as stream:
            np.lib.format.write_array_header_1_0(stream, header)  # type: ignore[arg-type]
            for chunk in chunks:
                stream.write(np.ascontiguousarray(chunk))
            return stream.close()


def _expect(name: str, array: Array, shape: tuple[int, ...], kind: Any) -> None:
    if array.shape != shape or array.dtype != kind:
        raise ValueError(f"{name} must be {np.dtype(kind)} {shape}, not {array.dtype} {array.shape}")


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


def items_file(table: pa.Table) -> bytes:
    """The file's bytes, checksums of its pages inside: the same for the same rows."""
    memory = io.BytesIO()  # parquet seeks nowhere, but its errors would hide a full disk's
    pq.write_table(
        table.combine_chunks(),
        memory,
        row_group_size=_ROW_GROUP,
        compression="zstd",
        write_page_checksum=True,
    )
    return memory.getvalue()  # a view of its buffer in a reference cycle crashes CPython before 3.12.4


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
