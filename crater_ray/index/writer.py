"""Writes one part: into tmp/, then renamed into place, so that a part is there whole or not at all."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from crater_ray.errors import DamagedIndex, IndexMismatch
from crater_ray.index.bucket import bucket
from crater_ray.index.copies import send
from crater_ray.index.items import items_file, items_schema, items_table
from crater_ray.index.parts import (
    CODES,
    ITEMS,
    PART,
    SCALES,
    VECTORS,
    Array,
    Member,
    PartEntry,
    Record,
    done,
    part_folder,
)
from crater_ray.index.recipe import Recipe
from crater_ray.index.sealed import seal
from crater_ray.index.store import Stream, Sum, attempt, move_folder, remove_folder
from crater_ray.types import Item

_COPIED = 4096  # rows in memory at once
_TRIES = 8  # at setting aside a damaged part that another driver may be mending too


class PartWriter:
    """A part in the making. Codes go to the disk as they come; items, vectors and scales wait for `commit`.

    A context manager: without a commit its attempt is removed. `columns` is the reader's schema.
    Raises ReaderError for a bad part name, StorageFull, and OSError as it comes.
    """

    def __init__(self, root: Path, name: str, digest: str, recipe: Recipe, columns: pa.Schema) -> None:
        self._root, self._name, self._digest, self._recipe = Path(root), name, digest, recipe
        self._target = part_folder(self._root, name, digest)
        self._schema = items_schema(columns)
        self._tables: list[pa.Table] = []
        self._vectors: list[Array] = []
        self._scales: list[Array] = []
        self._skipped: dict[str, str] = {}
        self._rows = 0
        self._folder = attempt(self._root, f"{name}.{digest[:8]}")
        try:
            self._codes = Stream(self._root, self._folder / CODES)
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
        recipe = self._recipe
        _expect("vectors", vectors, (n, recipe.shortlist_m, recipe.shortlist_dim), np.float16)
        _expect("codes", codes, (n, recipe.record_bytes), np.uint8)
        _expect("scales", scales, (n, recipe.scales), np.float32)

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

        `members` are those of a pack, in the order of their rows.
        """
        recipe = self._recipe
        vector = recipe.shortlist_m, recipe.shortlist_dim
        files = {
            CODES: self._codes.close(),
            ITEMS: self._write_items(),
            VECTORS: self._write_array(VECTORS, self._vectors, vector, np.float16),
        }
        if recipe.scales:
            files[SCALES] = self._write_array(SCALES, self._scales, (recipe.scales,), np.float32)
        record = Record(
            self._name,
            self._digest,
            self._rows,
            vector,
            recipe.record_bytes,
            recipe.scales,
            files,
            dict(sorted(self._skipped.items())),
            tuple(members),
            uuid.uuid4().hex if bucket(self._root) is not None else "",
        )
        with Stream(self._root, self._folder / PART) as stream:  # last: what it tells of is on the disk
            stream.write(seal(record.payload()))
            stream.close()
        return self._place(record.attempt)

    def _place(self, sent: str) -> PartEntry:
        if sent and not send(self._root, self._folder, self._target, PART, sent):
            return self._other()
        for _ in range(_TRIES):
            if move_folder(self._root, self._folder, self._target):
                return PartEntry(self._name, self._digest, self._rows, len(self._skipped))
            theirs = done(self._root, self._name, self._digest)
            if theirs is not None:
                remove_folder(self._folder)
                return theirs
            aside = attempt(self._root, f"damaged.{self._name}.{self._digest[:8]}")
            try:
                self._target.rename(aside)  # onto our own empty folder
            except FileNotFoundError:
                aside.rmdir()
        raise IndexMismatch(
            f"{self._target} keeps coming back damaged while it is replaced; "
            "stop other drivers of this index and run the command again"
        )

    def _other(self) -> PartEntry:
        """The part as another committed it to object storage first."""
        theirs = done(self._root, self._name, self._digest)
        if theirs is None:
            where = bucket(self._root)
            key = f"{self._target.parent.name}/{self._target.name}/{PART}"
            raise DamagedIndex(f"{where.url}/{key} cannot be read; {where.mend(key)}" if where else key)
        return theirs

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._codes.__exit__(kind, value, trace)
        remove_folder(self._folder)  # gone already after a commit

    def _write_items(self) -> Sum:
        table = pa.concat_tables(self._tables) if self._tables else self._schema.empty_table()
        with Stream(self._root, self._folder / ITEMS) as stream:
            stream.write(items_file(table))
            return stream.close()

    def _write_array(self, name: str, chunks: list[Array], row: tuple[int, ...], kind: Any) -> Sum:
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(kind)),
            "fortran_order": False,
            "shape": (self._rows, *row),
        }
        with Stream(self._root, self._folder / name) as stream:
            np.lib.format.write_array_header_1_0(stream, header)  # type: ignore[arg-type]
            for chunk in chunks:
                stream.write(np.ascontiguousarray(chunk))
            return stream.close()


def _expect(name: str, array: Array, shape: tuple[int, ...], kind: Any) -> None:
    if array.shape != shape or array.dtype != kind:
        raise ValueError(f"{name} must be {np.dtype(kind)} {shape}, not {array.dtype} {array.shape}")
