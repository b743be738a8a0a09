"""An index that grew is compacted: small parts joined, the shortlist built anew. No Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from crater_ray.index.compacted import compact_parts, own_columns
from crater_ray.index.config import IndexConfig, read_config
from crater_ray.index.lock import DriverLock
from crater_ray.index.parts import Part, PartEntry
from crater_ray.index.segments import read_segment
from crater_ray.index.snapshot import Snapshot
from crater_ray.index.store import Store
from crater_ray.index.versions import Version, VersionTaken, publish
from crater_ray.jobs.segment import asked, build, like

ROWS = 65_536  # of a compacted part at most: a row group of items.parquet


@dataclass(frozen=True, slots=True)
class Compacted:
    """Before and after."""

    version: int
    parts: tuple[int, int]
    segments: tuple[int, int]
    masked: int  # rows of the shortlist that no version needs and that are searched no more
    shortlist: tuple[str, ...] = ()  # what each segment is, and how much it was measured to find
    changed: bool = True  # False: the version was compact already, and stays

    def as_text(self) -> str:
        if not self.changed:
            return f"nothing to compact: version {self.version} stays"
        line = (
            f"version {self.version}: {self.parts[0]} parts are now {self.parts[1]}, "
            f"and {self.segments[0]} segments {self.segments[1]}; {self.masked} masked rows dropped"
        )
        return "\n".join([line, *(f"shortlist: {told}" for told in self.shortlist if ": " in told)])


def compact(store: Store, *, rows: int = ROWS, segments: int = 1) -> Compacted:
    """A version of the same items: parts joined up to `rows`, the shortlist in as many `segments`.

    The parent's files stay until they are collected; of an index on object storage all parts are copied here.
    The shortlist keeps its whitening, and its factory too; where a rule chose that ("auto"), it chooses
    again, and what the lists learnt is kept where it stays.
    Raises IndexMismatch where another driver writes or there is no version, DamagedIndex, StorageFull.
    """
    config = read_config(store)  # before a lock is left in a folder that is no index
    with DriverLock(store):
        while True:
            snapshot = Snapshot(store)
            parent = snapshot.version
            packs = (_packed(store, config, group) for group in _groups(snapshot, rows))
            parts = tuple(sorted(packs, key=lambda part: part.name))
            shas, masked = _shortlist(snapshot, parts, segments)
            counts = (len(parent.parts), len(parts)), (len(parent.segments), len(shas))
            if (parts, shas) == (parent.parts, parent.segments):
                return Compacted(parent.number, *counts, masked, _told(store, shas), changed=False)
            version = Version(
                parent.number + 1, parent.number, parts, shas, parent.readers, parent.allow_missing
            )
            try:
                publish(store, version)
            except VersionTaken:
                continue
            return Compacted(version.number, *counts, masked, _told(store, shas))


def _shortlist(snapshot: Snapshot, parts: Sequence[PartEntry], count: int) -> tuple[tuple[str, ...], int]:
    """The segments of the new version, and the masked rows of the old ones; none for queries' indexes."""
    old = snapshot.segments
    masked = sum(segment.rows for segment in old) - len(snapshot) if old else 0
    if not old or (tuple(parts) == snapshot.version.parts and not masked and len(old) == count):
        return snapshot.version.segments, masked
    from crater_ray.search.shortlist import chosen

    factory, whiten = asked(old)
    vectors = sum(part.rows for part in parts) * snapshot.config.shortlist_m
    how = like(old, factory, whiten, vectors)
    if how.auto and chosen(factory, vectors) != how.factory:  # it has outgrown its lists
        how = replace(how, factory=factory, quantizer=None)
    return build(snapshot.store, snapshot.config, list(_shares(parts, count)), how), masked


def _told(store: Store, shas: Sequence[str]) -> tuple[str, ...]:
    return tuple(read_segment(store, sha).told() for sha in shas)


def _packed(store: Store, config: IndexConfig, group: Sequence[PartEntry]) -> PartEntry:
    return compact_parts(store, config, group) if len(group) > 1 else group[0]


def _groups(snapshot: Snapshot, rows: int) -> Iterator[list[PartEntry]]:
    """Runs of parts that one pack can hold: of one reader, with the same columns, `rows` together at most."""

    def kind(part: Part) -> tuple[int, str]:
        return part.entry.reader, str(own_columns(part.schema))

    def place(part: Part) -> tuple[int, str, str]:  # a compacted part stands where its first member stood
        return *kind(part), part.record.members[0].name if part.record.members else part.entry.name

    for _, alike in groupby(sorted(snapshot.parts, key=place), kind):
        group: list[PartEntry] = []
        for part in alike:
            if group and sum(entry.rows for entry in group) + len(part) > rows:
                yield group
                group = []
            group.append(part.entry)
        yield group


def _shares(parts: Sequence[PartEntry], count: int) -> Iterator[tuple[PartEntry, ...]]:
    """Runs of parts, `count` of them at most, with about as many rows in each."""
    full = [part for part in parts if part.rows]
    total, done = sum(part.rows for part in full), 0
    shares: list[list[PartEntry]] = [[] for _ in range(count)]
    for part in full:
        shares[min(count - 1, (done + part.rows // 2) * count // total)].append(part)
        done += part.rows
    yield from (tuple(share) for share in shares if share)
