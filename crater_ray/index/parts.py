"""Finished parts: what names one, whether it is there, and its rows as maps."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from crater_ray.errors import DamagedIndex, IndexMismatch, ReaderError
from crater_ray.files import Sum, sum_of
from crater_ray.index.checksummed_json import canonical, read_checksummed
from crater_ray.index.gather import ranges
from crater_ray.index.ranged import Rows
from crater_ray.index.store import PART, PARTS, Copy, Store
from crater_ray.types import Item

ITEMS, VECTORS, CODES, SCALES = "items.parquet", "vectors.npy", "codes.bin", "scales.npy"
_PROBES = 64  # rows looked at before the disk is asked for all
BASE_COLUMNS = ("id", "group", "uri", "stamp")
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class PartEntry:
    """One finished part, as a version lists it."""

    name: str
    digest: str  # of part_digest()
    rows: int
    skipped: int  # items skipped
    reader: int = 0  # which of the version's readers loads its images

    @property
    def folder(self) -> str:
        return f"{self.name}.{self.digest}"


def part_digest(config_digest: str, items: Iterable[Item]) -> str:
    """xxh3_128 hex of the index config and the items as listed, in order; no part stores relevance.

    Raises ReaderError for a column that is not plain data.
    """
    digest = xxhash.xxh3_128(config_digest.encode())
    for item in items:
        try:
            digest.update(canonical([item.id, item.group, item.uri, item.stamp, dict(item.columns)], _plain))
        except TypeError as error:
            raise ReaderError(f"item {item.id!r}: {error}; give columns numbers, text or dates") from None
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, date | time | timedelta | Decimal | bytes):
        return repr(value)
    raise TypeError(f"a column holds a {type(value).__name__}")


def check_name(name: str) -> None:
    """Raises ReaderError for a part name that is not safe as a file name."""
    if not name or name[0] == "." or len(name.encode()) > 160 or any(c in "/\\" or ord(c) < 32 for c in name):
        raise ReaderError(
            f"the reader names a part {name!r}: use a file name of at most 160 bytes, "
            "without slashes or a leading dot"
        )


def part_folder(store: Store, name: str, digest: str) -> Path:
    return store.local / part_key(name, digest)


def part_key(name: str, digest: str) -> str:
    check_name(name)
    return f"{PARTS}/{name}.{digest}"


def done(store: Store, name: str, digest: str) -> PartEntry | None:
    """The finished part of that name and digest, None when it is absent or a file is missing or short."""
    try:
        place = _fetched(store, name, digest)
        if place is None:
            return None
        record = read_record(place)
        check_sizes(place, record)
    except (DamagedIndex, IndexMismatch):
        return None  # made again; the commit sets the damaged one aside
    return PartEntry(name, digest, record.rows, len(record.skipped))


@dataclass(frozen=True, slots=True)
class Member:
    """One of the parts that a compacted part is made of; its rows follow those of the member before."""

    name: str
    digest: str
    rows: int
    skipped: Mapping[str, str]  # id -> reason


@dataclass(frozen=True, slots=True)
class Record:
    """part.json: rows, shapes, the Sum of every file, what was skipped, and a compacted part's members."""

    name: str
    digest: str
    rows: int
    vectors: tuple[int, int]  # m, G
    record_bytes: int
    scales: int
    files: Mapping[str, Sum]
    skipped: Mapping[str, str]  # id -> reason
    members: tuple[Member, ...] = ()  # of a compacted part; see compacted.py
    attempt: str = ""  # on object storage, the key that its files are below

    def payload(self) -> dict[str, Any]:
        packed: dict[str, Any] = {}
        if self.members:
            packed["members"] = [asdict(member) for member in self.members]
        if self.attempt:
            packed["attempt"] = self.attempt
        return {
            "format": 1,
            "name": self.name,
            "digest": self.digest,
            "rows": self.rows,
            "vectors": list(self.vectors),
            "record_bytes": self.record_bytes,
            "scales": self.scales,
            "files": {name: told.payload() for name, told in self.files.items()},
            "skipped": dict(self.skipped),
            **packed,
        }


def read_record(folder: Path) -> Record:
    """Raises DamagedIndex naming part.json."""
    plain = read_checksummed(folder / PART, "what the part holds")
    try:
        files = {name: Sum(**told) for name, told in plain["files"].items()}
        m, dim = plain["vectors"]
        return Record(
            plain["name"],
            plain["digest"],
            plain["rows"],
            (m, dim),
            plain["record_bytes"],
            plain["scales"],
            files,
            plain["skipped"],
            tuple(Member(**member) for member in plain.get("members", ())),
            plain.get("attempt", ""),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedIndex(f"{folder / PART} lacks a field ({error}); {_AGAIN}") from None


_AGAIN = "delete the part's folder and run `crater-ray index` again"
_RUN_AGAIN = "run `crater-ray index` again to make it"


def _fetched(store: Store, name: str, digest: str) -> Path | None:
    """The folder of a part, its part.json here; None where there is none."""
    place = part_folder(store, name, digest)
    there = store.fetch(f"{part_key(name, digest)}/{PART}")
    return place if there or place.is_dir() else None


def copies(place: Path, record: Record) -> list[Copy]:
    """What of a part is copied from object storage into its folder; nothing of one on a disk."""
    key = f"{PARTS}/{place.name}/{record.attempt}"
    every = record.files.items() if record.attempt else ()
    return [Copy(place / name, f"{key}/{name}", told) for name, told in every]


def check_sizes(folder: Path, record: Record) -> None:
    """Raises DamagedIndex naming the first file that is missing or not as long as part.json says.

    Files on object storage are copied when they are read, and checked then.
    """
    for name, told in ({} if record.attempt else record.files).items():
        try:
            size = os.stat(folder / name).st_size
        except FileNotFoundError:
            raise DamagedIndex(f"{folder / name} is missing; {_AGAIN}") from None
        if size != told.bytes:
            raise DamagedIndex(f"{folder / name} has {size} bytes, not {told.bytes}; {_AGAIN}")


def check_part(part: Part) -> None:
    """Reads every file of a part. Raises DamagedIndex naming the first that is not as it was written.

    A bad copy of what lies on object storage is copied again.
    """
    part.store.download(part.copies(), repair=True)
    if part.record.attempt:
        return
    check_sizes(part.folder, part.record)
    for name, told in part.record.files.items():
        if sum_of(part.path(name)) != told:
            raise DamagedIndex(f"{part.folder / name} does not match its checksum; {_AGAIN}")


class Part:
    """One finished part, read-only. Rows n, m vectors of G, record of R bytes, s scales."""

    def __init__(self, store: Store, folder: Path, entry: PartEntry, record: Record) -> None:
        self.store, self.folder, self.entry, self.record = store, folder, entry, record
        self._here: set[str] = set()  # files that need not be looked for

    def __len__(self) -> int:
        return self.record.rows

    def copies(self, names: Iterable[str] | None = None) -> list[Copy]:
        """What of its files, or of those named, is copied from object storage; nothing of one on a disk."""
        every = copies(self.folder, self.record)
        return every if names is None else [copy for copy in every if copy.path.name in names]

    def here(self, name: str) -> bool:
        """Whether one of its files can be mapped; it stays on object storage until it is copied."""
        if self.record.attempt and name not in self._here:
            if not all(copy.there for copy in self.copies([name])):
                return False
            self._here.add(name)
        return True

    def array(self, name: str) -> Array:
        """codes, scales or vectors, by the name of the file."""
        found: Array = getattr(self, name.partition(".")[0])
        return found

    def rows_of(self, name: str, rows: Array) -> Rows:
        """Rows of one of its files, to be read by ranges."""
        record, (copy,) = self.record, self.copies([name])
        m, dim = record.vectors
        size = {CODES: record.record_bytes, SCALES: 4 * record.scales, VECTORS: 2 * m * dim}[name]
        return Rows(copy, copy.told.bytes - size * len(self), size, rows)

    def path(self, name: str) -> Path:
        """Of one of its files, which is here then."""
        if self.record.attempt:
            self.store.download(self.copies([name]))
        return self.folder / name

    def items(self, columns: Iterable[str] | None = None) -> pa.Table:
        """id, group, uri, stamp and the reader's columns, page checksums verified. Raises DamagedIndex."""
        path = self.path(ITEMS)
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                return file.read(columns=None if columns is None else list(columns))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DamagedIndex(f"{path} cannot be read: {str(error).splitlines()[0]}; {_AGAIN}") from None

    @cached_property
    def schema(self) -> pa.Schema:
        """Of items()."""
        path = self.path(ITEMS)
        try:
            return pq.read_schema(path)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DamagedIndex(f"{path} cannot be read: {str(error).splitlines()[0]}; {_AGAIN}") from None

    @property
    def vectors(self) -> Array:
        """(n, m, G) float16, a map, opened on each call: a map holds a file open."""
        return self._array(VECTORS, (len(self), *self.record.vectors), np.float16)

    @cached_property
    def codes(self) -> Array:
        """(n, R) uint8, a map."""
        if not len(self):
            return np.empty((0, self.record.record_bytes), np.uint8)
        return np.memmap(self.path(CODES), np.uint8, "r", shape=(len(self), self.record.record_bytes))

    def read_ahead(self, rows: Array) -> None:
        """Asks the disk for all those codes at once, unless memory has them; does not wait for them."""
        if not len(rows) or not hasattr(os, "posix_fadvise"):
            return
        size, handle = self.record.record_bytes, os.open(self.path(CODES), os.O_RDONLY)
        try:
            # Asking for 1,000 rows that memory has takes half as long as copying them; a look is free.
            if in_memory(handle, (rows[:: 1 + len(rows) // _PROBES] * size).tolist()):
                return
            for first, stop in ranges(rows):
                os.posix_fadvise(handle, first * size, (stop - first) * size, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(handle)

    @cached_property
    def scales(self) -> Array:
        """(n, s) float32, in memory."""
        if not self.record.scales:
            return np.empty((len(self), 0), np.float32)
        return np.array(self._array(SCALES, (len(self), self.record.scales), np.float32))

    def _array(self, name: str, shape: tuple[int, ...], kind: Any) -> Array:
        if not len(self):
            return np.empty(shape, kind)
        path = self.path(name)
        try:
            array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise DamagedIndex(f"{path} is not an array file: {error}; {_AGAIN}") from None
        if array.shape != shape or array.dtype != kind:
            raise DamagedIndex(f"{path} holds {array.dtype} {array.shape}, not {shape}; {_AGAIN}")
        return array


def in_memory(handle: int, offsets: Iterable[int]) -> bool:
    """Whether all those bytes of a file are in memory; False where the system cannot tell."""
    byte = bytearray(1)
    try:
        return all(os.preadv(handle, [byte], offset, os.RWF_NOWAIT) == 1 for offset in offsets)
    except (AttributeError, OSError):
        return False


def open_part(store: Store, entry: PartEntry) -> Part:
    """The part's rows, sizes checked. Raises DamagedIndex naming the file that is missing, short or long."""
    place = _fetched(store, entry.name, entry.digest)
    if place is None:
        raise DamagedIndex(f"{part_folder(store, entry.name, entry.digest)} is missing; {_RUN_AGAIN}")
    record = read_record(place)
    if (record.name, record.digest, record.rows) != (entry.name, entry.digest, entry.rows):
        raise DamagedIndex(
            f"{place / PART} tells of {record.rows} rows of {record.name}.{record.digest}, "
            f"but the version lists {entry.rows} of {entry.folder}; {_AGAIN}"
        )
    check_sizes(place, record)
    return Part(store, place, entry, record)


def open_parts(store: Store, entries: Sequence[PartEntry], names: Iterable[str] | None = ()) -> list[Part]:
    """Many parts, and the files named of each (None: all) here: from object storage several at once."""
    store.fetch_all([f"{part_key(entry.name, entry.digest)}/{PART}" for entry in entries])
    parts = [open_part(store, entry) for entry in entries]
    wanted = None if names is None else list(names)
    store.download([copy for part in parts for copy in part.copies(wanted)])
    return parts


def recorded(store: Store, entry: PartEntry) -> Record:
    """What part.json says of a part. Raises DamagedIndex."""
    return read_record(_fetched(store, entry.name, entry.digest) or store.local / PARTS / entry.folder)


def skipped(store: Store, entry: PartEntry) -> dict[str, str]:
    """id -> why it was skipped. Raises DamagedIndex."""
    return dict(recorded(store, entry).skipped)
