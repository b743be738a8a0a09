"""An opened index: one version, pinned, whatever is published after."""

from __future__ import annotations

import resource
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from crater_ray.errors import IndexMismatch, QueryError
from crater_ray.index.config import read_config
from crater_ray.index.fitted import Arrays, fitted_file, read_fitted
from crater_ray.index.gather import gather
from crater_ray.index.leases import Pin, VersionGone
from crater_ray.index.parts import (
    BASE_COLUMNS,
    CODES,
    ITEMS,
    SCALES,
    VECTORS,
    Array,
    Part,
    check_part,
    open_parts,
)
from crater_ray.index.ranged import DENSE, Rows, read_rows
from crater_ray.index.segments import Segment, check_segment, read_segment
from crater_ray.index.store import Copy, Store
from crater_ray.index.versions import Version, latest, read, union_schema

_OTHER_FILES = 512  # that a process holds beside its parts'
_CACHED = 32  # rows copied twice while they are in the processor's cache
_FEW_IDS = 64  # are looked up one by one; more through a table of all
_SUGGEST_BELOW = 50_000  # ids; looking for a close one among more takes too long


class Snapshot:
    """Rows of one version: its parts in order, N in all. Read-only, thread-safe once opened.

    With `segments`, only the parts of those of the version's segments: a share of it. Of an index on object
    storage a file is copied when it is first read; `download` copies all of the share, several at once.
    Raises IndexMismatch when `root` is no index, a newer one, or lacks that version; DamagedIndex.
    """

    def __init__(
        self, store: Store, version: int | None = None, segments: Collection[str] | None = None
    ) -> None:
        self.store = store
        self.config = read_config(self.store)
        self.version, self._pin = _pinned(self.store, version)
        found = self.version
        every = [read_segment(self.store, sha) for sha in found.segments]
        self.segments: tuple[Segment, ...] = tuple(
            segment for segment in every if segments is None or segment.sha in segments
        )
        entries = found.parts
        if segments is not None:
            entries = tuple(
                entry for entry, sha in zip(entries, owners(found, every), strict=True) if sha in segments
            )
        _allow_files(len(entries))
        self.parts: tuple[Part, ...] = tuple(open_parts(self.store, entries))
        self.offsets: Array = np.cumsum([0, *(len(part) for part in self.parts)])  # (parts + 1,), first rows

    def __len__(self) -> int:
        return int(self.offsets[-1])

    @cached_property
    def ids(self) -> pa.LargeStringArray:
        """(N,) in row order."""
        return self._column("id")

    @cached_property
    def groups(self) -> pa.LargeStringArray:
        """(N,) in row order."""
        return self._column("group")

    @cached_property
    def columns(self) -> dict[str, str]:
        """The names of the items' columns, and what each holds."""
        return {field.name: str(field.type) for field in self._schema}

    @cached_property
    def _schema(self) -> pa.Schema:
        if not self.parts:
            return pa.schema([(name, pa.string()) for name in BASE_COLUMNS])
        return union_schema((part.entry.name, part.schema) for part in self.parts)

    def items(self, columns: Iterable[str] | None = None) -> pa.Table:
        """id, group, uri, stamp and the readers' columns, in row order; null where a part's reader has none.

        Raises ValueError for a column that no part has.
        """
        schema = self._schema
        wanted = schema.names if columns is None else list(columns)
        for name in wanted:
            if name not in schema.names:
                raise ValueError(f"no column {name!r}; there are: {', '.join(schema.names)}")
        schema = pa.schema([pa.field(name, schema.field(name).type) for name in wanted])
        tables = []
        for part in self.parts:
            have = [name for name in wanted if name in part.schema.names]
            table = part.items(have)
            arrays = [
                table.column(field.name).cast(field.type)
                if field.name in have
                else pa.nulls(len(part), field.type)
                for field in schema
            ]
            tables.append(pa.table(arrays, schema=schema))
        return pa.concat_tables(tables) if tables else schema.empty_table()

    def row(self, id: str) -> int:
        """The row of an id. Raises QueryError with the closest id there is."""
        found = self._found(id)
        if found < 0:
            close = get_close_matches(id, self.ids.to_pylist(), 1) if len(self) <= _SUGGEST_BELOW else []
            hint = (
                f"did you mean {close[0]!r}?"
                if close
                else "ids are those of the reader, such as "
                + (repr(self.ids[0].as_py()) if len(self) else "none: the index is empty")
            )
            raise QueryError(f"no item {id!r} in version {self.version.number} of {self.store.url}; {hint}")
        return found

    def rows(self, ids: Iterable[str]) -> Array:
        """(n,) int64, the rows of ids; -1 where there is none."""
        wanted = list(ids)
        if len(wanted) <= _FEW_IDS:
            return np.array([self._found(id) for id in wanted], np.int64)
        found = pc.index_in(pa.array(wanted, pa.large_string()), value_set=self.ids)
        return np.asarray(found.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)

    def _found(self, id: str) -> int:
        """The row of an id, -1 where there is none: by halves, whatever the number of rows."""
        at = bisect_left(self._by_id, id, key=lambda row: self.ids[int(row)].as_py())
        row = int(self._by_id[at]) if at < len(self) else -1
        return row if row >= 0 and self.ids[row].as_py() == id else -1

    @cached_property
    def _by_id(self) -> Array:
        """(N,) int64, the rows in the order of their ids."""
        return np.asarray(pc.array_sort_indices(self.ids).to_numpy(), np.int64)

    @cached_property
    def id_ranks(self) -> Array:
        """(N,) int64, each row's place among the sorted ids: what ties are broken by."""
        ranks = np.empty(len(self), np.int64)
        ranks[self._by_id] = np.arange(len(self))
        return ranks

    def part_of(self, row: int) -> tuple[Part, int]:
        """The part a row stands in, and its row there. Raises ValueError outside 0 … N - 1."""
        if not 0 <= row < len(self):
            raise ValueError(f"row {row} of an index of {len(self)} rows")
        at = int(np.searchsorted(self.offsets, row, "right")) - 1
        return self.parts[at], row - int(self.offsets[at])

    @cached_property
    def scales(self) -> Array:
        """(N, s) float32, in memory."""
        every = [part.scales for part in self.parts]
        return np.concatenate(every) if every else np.empty((0, self.config.scales), np.float32)

    def gather(self, rows: Array) -> tuple[Array, Array]:
        """codes (S, R) uint8 and scales (S, s) float32 of the given rows, in their order, repeats allowed.

        The disk is asked for all of them first; object storage for ranges of the files that are not here.
        Raises ValueError for a row outside 0 … N - 1.
        """
        rows = np.asarray(rows, np.int64)
        wanted = self._by_part(rows)
        if not all(part.here(CODES) and part.here(SCALES) for part, _, _ in wanted):
            codes = np.empty((len(rows), self.config.record_bytes), np.uint8)
            scales = np.empty((len(rows), self.config.scales), np.float32)
            self._read(wanted, {CODES: codes, SCALES: scales})
            return codes, scales
        for part, _, own in wanted:
            part.read_ahead(own)
        if len(wanted) == 1:  # in order already: one copy will do
            return gather(wanted[0][0].codes, wanted[0][2]), self.scales[rows]
        codes = np.empty((len(rows), self.config.record_bytes), np.uint8)
        for part, at, own in wanted:
            for first in range(0, len(at), _CACHED):
                few = slice(first, first + _CACHED)
                codes[at[few]] = gather(part.codes, own[few])
        return codes, self.scales[rows]

    def _by_part(self, rows: Array) -> list[tuple[Part, Array, Array]]:
        """For each part that holds some: their places in `rows`, ascending, and their rows there."""
        rows = np.asarray(rows, np.int64)
        if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < len(self):
            raise ValueError(f"rows {int(rows.min())} … {int(rows.max())} of an index of {len(self)} rows")
        owner = np.searchsorted(self.offsets, rows, "right") - 1
        order = np.argsort(owner, kind="stable")
        owners, cuts = np.unique(owner[order], return_index=True)
        return [
            (self.parts[part], at, rows[at] - self.offsets[part])
            for part, at in zip(owners.tolist(), np.split(order, cuts[1:]), strict=False)
        ]

    def blocks(self, max_rows: int) -> Iterator[tuple[int, Array, Array]]:
        """(first row, codes (n, R), scales (n, s)) over all rows, n <= max_rows, none across parts: views."""
        if max_rows < 1:
            raise ValueError(f"max_rows is {max_rows}; use 1 or more")
        for part, offset in zip(self.parts, self.offsets.tolist(), strict=False):
            for first in range(0, len(part), max_rows):
                stop = min(first + max_rows, len(part))
                yield offset + first, part.codes[first:stop], part.scales[first:stop]

    def vectors(self, rows: Array | None = None) -> Array:
        """(N, m, G) float16 in row order, a map when there is one part; or (S, m, G), of those rows alone.

        Raises ValueError for a row outside 0 … N - 1.
        """
        if rows is None and len(self.parts) == 1:
            return self.parts[0].vectors
        wanted = self._by_part(np.arange(len(self)) if rows is None else rows)
        count = sum(len(at) for _, at, _ in wanted)
        found = np.empty((count, self.config.shortlist_m, self.config.shortlist_dim), np.float16)
        self._read(wanted, {VECTORS: found})
        return found

    def _read(self, wanted: Sequence[tuple[Part, Array, Array]], files: Mapping[str, Array]) -> None:
        """Puts rows of each part's files, its `own`, at their places in the arrays.

        A file of which much is wanted is copied first, and checked.
        """
        dense = [part.copies(files) for part, _, own in wanted if DENSE * len(own) >= len(part)]
        self.store.download([copy for copies in dense for copy in copies])
        far: list[tuple[Array, Array, Rows]] = []
        for part, at, own in wanted:
            for name, array in files.items():
                if not array[:1].nbytes:
                    continue
                if part.here(name):
                    array[at] = part.array(name)[own]
                else:
                    far.append((array, at, part.rows_of(name, own)))
        for (array, at, _), rows in zip(
            far, read_rows(self.store, [rows for _, _, rows in far]), strict=True
        ):
            array[at] = rows.view(array.dtype).reshape(len(at), *array.shape[1:])

    def segment_rows(self, segment: Segment) -> Array:
        """(segment.rows,) int64, the version's row of each of the segment's rows; -1: its part is gone."""
        first = {
            (part.entry.name, part.entry.digest): offset
            for part, offset in zip(self.parts, self.offsets.tolist(), strict=False)
        }
        runs = [
            np.arange(rows) + first[name, digest] if (name, digest) in first else np.full(rows, -1)
            for name, digest, rows in segment.parts
        ]
        return np.concatenate(runs).astype(np.int64) if runs else np.empty(0, np.int64)

    def download(self, *, tokens: bool = True) -> None:
        """All of it here, where it lies on object storage; without `tokens`, what a shortlist needs.

        `gather` then reads rows by ranges. Raises DamagedIndex, StorageError, StorageFull.
        """
        flat = {part for segment in self.segments if segment.file is None for part in segment.parts}
        copies: list[Copy] = []
        for part in self.parts:
            entry = part.entry
            compared = (entry.name, entry.digest, entry.rows) in flat
            copies += part.copies(None if tokens else [ITEMS, VECTORS] if compared else [ITEMS])
        self.store.download([*copies, *(copy for segment in self.segments for copy in segment.copies())])

    def check(self) -> None:
        """Reads every file of its parts and segments. Raises DamagedIndex naming the first bad one.

        A bad copy of what lies on object storage is copied again.
        """
        self.store.download([copy for segment in self.segments for copy in segment.copies()], repair=True)
        for part in self.parts:
            check_part(part)
        for segment in self.segments:
            check_segment(segment)
            for learnt in segment.learnt:
                read_fitted(self.store, learnt)

    def fitted(self, segment: Segment) -> Arrays | None:
        """What is done to a segment's vectors and to queries first; None: nothing. Raises DamagedIndex."""
        return None if segment.fitted is None else read_fitted(self.store, segment.fitted)

    def bytes_per_image(self) -> dict[str, float]:
        """Bytes on the disk for one image, by stage, "total" last; every stage counted."""
        sizes: dict[str, int] = {"vectors": 0, "shortlist": 0, "codes": 0, "scales": 0, "items": 0}
        for part in self.parts:
            for name, told in part.record.files.items():
                sizes[name.split(".")[0]] += told.bytes
        sizes["shortlist"] = sum(segment.sum.bytes for segment in self.segments if segment.sum is not None)
        for sha in {learnt for segment in self.segments for learnt in segment.learnt}:
            sizes["shortlist"] += fitted_file(self.store, sha).stat().st_size
        shares = {stage: size / max(len(self), 1) for stage, size in sizes.items()}
        return {**shares, "total": sum(shares.values())}

    def _column(self, name: str) -> Any:
        column = self.items([name]).column(name).cast(pa.large_string())
        return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _pinned(store: Store, number: int | None) -> tuple[Version, Pin]:
    """A version and what keeps it from being collected; the current one where none is named."""
    while True:
        found = latest(store) if number is None else read(store, number)
        if found is None:
            raise IndexMismatch(
                f"{store.url} has no version yet: its first job has not finished; "
                "run `crater-ray index JOB.toml` again"
            )
        try:
            return found, Pin(store, found.number)
        except VersionGone:
            if number is not None:
                raise  # else another is current by now


def owners(version: Version, segments: Sequence[Segment]) -> list[str | None]:
    """For each part of the version the first of its segments that holds it; None for a part without rows."""
    first: dict[tuple[str, str], str] = {}
    for segment in segments:
        for name, digest, _ in segment.parts:
            first.setdefault((name, digest), segment.sha)
    return [first.get((part.name, part.digest)) for part in version.parts]


def _allow_files(parts: int) -> None:
    """Lets this process hold a file open for each part, as far as the system permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = parts + _OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
