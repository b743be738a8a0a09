"""Compacted parts: small parts kept as one, so that an index of many has few files.

To a search a compacted part is like any other. Its part.json names its members, whose rows follow one
another. Growth knows members only: where one leaves, the others are extracted, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import xxhash

from crater_ray.errors import ReaderError
from crater_ray.index.checksummed_json import canonical
from crater_ray.index.config import IndexConfig
from crater_ray.index.parts import (
    BASE_COLUMNS,
    Member,
    Part,
    PartEntry,
    check_part,
    done,
    open_part,
    recorded,
)
from crater_ray.index.store import PARTS, Store
from crater_ray.index.versions import Version
from crater_ray.index.writer import PartWriter

PREFIX = "compacted-"
Key = tuple[str, str]  # name, digest


@dataclass(frozen=True, slots=True)
class Location:
    """Where the rows of a member stand."""

    part: PartEntry
    first: int
    member: Member


def members(store: Store, entry: PartEntry) -> tuple[Member, ...]:
    """Of a compacted part, in the order of their rows; none of a plain part. Raises DamagedIndex."""
    if not entry.name.startswith(PREFIX):
        return ()
    return recorded(store, entry).members


def listing(store: Store, version: Version | None) -> dict[str, PartEntry]:
    """name -> part of all a version has, members in place of their packs. Raises DamagedIndex."""
    found: dict[str, PartEntry] = {}
    for entry in version.parts if version else ():
        for part in _plain(members(store, entry), entry.reader) or (entry,):
            found[part.name] = part
    return found


def locations(store: Store) -> dict[Key, Location]:
    """Where every member of the compacted parts stands, current or not; damaged ones are passed over."""
    found: dict[Key, Location] = {}
    for name in store.names(PARTS):
        if not name.startswith(PREFIX):
            continue
        pack_name, _, digest = name.rpartition(".")
        entry = done(store, pack_name, digest)
        if entry is None:
            continue
        first = 0
        for member in members(store, entry):
            found[member.name, member.digest] = Location(entry, first, member)
            first += member.rows
    return found


def compact_parts(store: Store, config: IndexConfig, parts: Sequence[PartEntry]) -> PartEntry:
    """One part with the rows of all, in their order; compacted parts among them give their members.

    They must be of one reader and have the same columns. Raises ValueError for fewer than two parts,
    DamagedIndex for a part that is not as it was written, StorageFull.
    """
    if len(parts) < 2:
        raise ValueError(f"{len(parts)} parts make no compacted part")
    inside = [member for part in parts for member in members(store, part) or (_member(store, part),)]
    made_of = [config.digest(), [[member.name, member.digest] for member in inside]]
    digest = xxhash.xxh3_128_hexdigest(canonical(made_of))
    name = PREFIX + digest[:16]
    there = done(store, name, digest)
    if there is None:
        columns = own_columns(open_part(store, parts[0]).schema)
        with PartWriter(store, name, digest, config, columns) as writer:
            for part in parts:
                opened = open_part(store, part)
                check_part(opened)  # damage must not get a checksum of its own
                _copy(writer, opened, 0, len(opened))
            _skip(writer, inside)
            there = writer.commit(inside)
    return replace(there, reader=parts[0].reader)


def extract(store: Store, config: IndexConfig, location: Location) -> PartEntry:
    """A member as the part it was, in the folder it had. Raises DamagedIndex, StorageFull."""
    member = location.member
    there = done(store, member.name, member.digest)
    if there is None:
        opened = open_part(store, location.part)
        check_part(opened)
        columns = own_columns(opened.schema)
        with PartWriter(store, member.name, member.digest, config, columns) as writer:
            _copy(writer, opened, location.first, member.rows)
            _skip(writer, [member])
            there = writer.commit()
    return there


def settle(
    store: Store, config: IndexConfig, parts: Iterable[PartEntry], parent: Version | None
) -> tuple[PartEntry, ...]:
    """Parts as a version lists them, by name: the parent's compacted ones that still have every member, and
    plain ones.

    Members that are wanted of other compacted parts are extracted. Raises DamagedIndex, StorageFull.
    """
    left = {(part.name, part.digest): part for part in parts}
    settled: list[PartEntry] = []
    for entry in parent.parts if parent else ():
        inside = members(store, entry)
        wanted = [part for member in inside if (part := left.get((member.name, member.digest)))]
        readers = {part.reader for part in wanted}
        if inside and len(wanted) == len(inside) and len(readers) == 1:
            settled.append(replace(entry, reader=readers.pop()))
            for part in wanted:
                del left[part.name, part.digest]
    absent = [part for part in left.values() if done(store, part.name, part.digest) is None]
    where = locations(store) if absent else {}
    for part in absent:
        location = where.get((part.name, part.digest))
        if location is not None:  # else publish says which file is missing
            extract(store, config, location)
    return tuple(sorted([*settled, *left.values()], key=lambda part: part.name))


def own_columns(schema: pa.Schema) -> pa.Schema:
    """A reader's columns of a part's."""
    return pa.schema([pa.field(field.name, field.type) for field in schema if field.name not in BASE_COLUMNS])


def refuse_prefix(names: Iterable[str]) -> None:
    """Raises ReaderError for a reader's part that is called as compacted parts are."""
    taken = next((name for name in names if name.startswith(PREFIX)), None)
    if taken is not None:
        raise ReaderError(f"the reader names a part {taken!r}; {PREFIX}… is what compacted parts are called")


def _plain(inside: Iterable[Member], reader: int) -> tuple[PartEntry, ...]:
    return tuple(
        PartEntry(member.name, member.digest, member.rows, len(member.skipped), reader) for member in inside
    )


def _member(store: Store, entry: PartEntry) -> Member:
    record = recorded(store, entry)
    return Member(record.name, record.digest, record.rows, record.skipped)


def _copy(writer: PartWriter, part: Part, first: int, rows: int) -> None:
    some = slice(first, first + rows)
    writer.copy(part.items().slice(first, rows), part.vectors[some], part.codes[some], part.scales[some])


def _skip(writer: PartWriter, inside: Iterable[Member]) -> None:
    for member in inside:
        for id, reason in member.skipped.items():
            writer.skip(id, reason)
