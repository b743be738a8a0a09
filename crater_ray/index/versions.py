"""versions/<n>.json, the only commit: which parts, segments and readers are current. The highest n is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from crater_ray.errors import DamagedIndex, IndexMismatch, ReaderError
from crater_ray.index.checksummed_json import checksummed, read_checksummed
from crater_ray.index.parts import ITEMS, PartEntry, open_parts
from crater_ray.index.segments import read_segment
from crater_ray.index.store import VERSIONS, Store
from crater_ray.plugins.specs import PluginRef

_WHAT = "a version of the index"
_TEXT = pa.large_string()


class VersionTaken(ValueError):
    """Another driver published that number first: take its version as the parent and publish again."""


@dataclass(frozen=True, slots=True)
class Version:
    """What is current: parts in row order, the segments over them, the readers that load their images."""

    number: int  # from 1
    parent: int  # 0: none
    parts: tuple[PartEntry, ...]
    segments: tuple[str, ...] = ()
    readers: tuple[PluginRef, ...] = ()
    allow_missing: tuple[str, ...] = ()  # parts the readers list and the caller agreed to go without

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def skipped(self) -> int:
        return sum(part.skipped for part in self.parts)


def version_path(store: Store, number: int) -> Path:
    return store.local / version_key(number)


def version_key(number: int) -> str:
    return f"{VERSIONS}/{number}.json"


def numbers(store: Store) -> list[int]:
    """The versions there are, ascending."""
    found = store.names(VERSIONS)
    return sorted(int(name[:-5]) for name in found if re.fullmatch(r"[1-9][0-9]*\.json", name))


def latest(store: Store) -> Version | None:
    """The current version, None before the first. Raises DamagedIndex, IndexMismatch."""
    known = numbers(store)
    return read(store, known[-1]) if known else None


def read(store: Store, number: int) -> Version:
    """Raises IndexMismatch for a number that is not there or a newer format, DamagedIndex."""
    if not store.fetch(version_key(number)):
        known = ", ".join(map(str, numbers(store))) or "none"
        raise IndexMismatch(f"{store.url} has no version {number}; there are: {known}")
    return read_file(version_path(store, number), number)


def read_file(path: Path, number: int) -> Version:
    """The version that `path` holds. Raises IndexMismatch for a newer format, DamagedIndex."""
    plain = read_checksummed(path, _WHAT)
    try:
        parts = tuple(PartEntry(**part) for part in plain["parts"])
        readers = tuple(PluginRef(**ref) for ref in plain["readers"])
        version = Version(
            plain["number"],
            plain["parent"],
            parts,
            tuple(plain["segments"]),
            readers,
            tuple(plain["allow_missing"]),
        )
    except (KeyError, TypeError) as error:
        raise DamagedIndex(f"{path} lacks a field ({error}); restore it from a copy") from None
    if version.number != number:
        raise DamagedIndex(f"{path} tells of version {version.number}; restore it from a copy")
    return version


def publish(store: Store, version: Version) -> Version:
    """The version, now current.

    Raises VersionTaken when its number is not the next one or another driver had it first; ValueError for a
    part twice or a reader not listed; DamagedIndex for a part or segment not whole; ReaderError for
    an id that stands in two places, or a column whose type differs between parts; StorageFull.
    """
    _check(store, version)
    known = numbers(store)
    parent = known[-1] if known else 0
    if (version.number, version.parent) != (parent + 1, parent):
        raise VersionTaken(f"version {version.number} on {version.parent}: {parent} is current")
    payload = {"format": 1, **asdict(version)}
    if commit_id := store.commit_id():  # two drivers may say the same, and only one of them was first
        payload["attempt"] = commit_id
    if not store.create(version_key(version.number), checksummed(payload)):
        raise VersionTaken(f"version {version.number} was published by another driver")
    return version


def _check(store: Store, version: Version) -> None:
    times = Counter(part.name for part in version.parts)
    twice = [name for name, count in times.items() if count > 1]
    if twice:
        raise ValueError(f"part {twice[0]!r} stands {times[twice[0]]} times in version {version.number}")
    for entry in version.parts:
        if not 0 <= entry.reader < max(len(version.readers), 1):
            raise ValueError(f"part {entry.name!r} names reader {entry.reader} of {len(version.readers)}")
    opened = open_parts(store, version.parts, [ITEMS])
    for sha in version.segments:
        read_segment(store, sha)
    union_schema((part.entry.name, part.schema) for part in opened)
    check_ids((part.entry.name, part.items(["id"]).column("id")) for part in opened)


def check_ids(parts: Iterable[tuple[str, pa.Array | pa.ChunkedArray]]) -> int:
    """The number of ids, all different. Raises ReaderError naming the first repeated id and its places."""
    names: list[str] = []
    columns: list[pa.ChunkedArray] = []
    for name, column in parts:
        names.append(name)
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        columns.append(pa.chunked_array([chunk.cast(_TEXT) for chunk in chunks], type=_TEXT))
    every = pa.chunked_array([chunk for column in columns for chunk in column.chunks], type=_TEXT)
    if pc.count_distinct(every, mode="all").as_py() == len(every):
        return len(every)
    counts = pc.value_counts(every)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    first = repeated[0].as_py()
    places = [
        name
        for name, column in zip(names, columns, strict=True)
        for _ in range(pc.sum(pc.equal(column, first)).as_py() or 0)
    ]
    same = places[0] == places[1]
    where = f"twice in part {places[0]}" if same else f"in part {places[0]} and in part {places[1]}"
    more = f" ({len(repeated) - 1} more ids are repeated)" if len(repeated) > 1 else ""
    raise ReaderError(f"id {first!r} stands {where}; ids must be unique in an index{more}")


def union_schema(schemas: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
    """All columns of all parts, in order of appearance. Raises ReaderError when one has two types."""
    seen: dict[str, tuple[pa.Field, str]] = {}
    for part, schema in schemas:
        for field in schema:
            known = seen.setdefault(field.name, (field, part))
            if known[0].type != field.type:
                raise ReaderError(
                    f"column {field.name!r} is {known[0].type} in part {known[1]} and "
                    f"{field.type} in part {part}; give it one type in the readers' `columns`"
                )
    return pa.schema([field.with_metadata(None) for field, _ in seen.values()])
