"""One version to the next: which parts are held, each with the reader that loads its images."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal

import pyarrow as pa

from crater_ray.errors import ReaderError
from crater_ray.index.compacted import listing, members, settle
from crater_ray.index.config import IndexConfig, read_config
from crater_ray.index.lock import DriverLock
from crater_ray.index.parts import PartEntry, open_part
from crater_ray.index.segments import read_segment
from crater_ray.index.snapshot import Snapshot
from crater_ray.index.store import Store
from crater_ray.index.versions import Version, VersionTaken, check_ids, latest, publish
from crater_ray.jobs.segment import asked, build, segments_for
from crater_ray.plugins import PluginRef, Reader, registry

Mode = Literal["all", "add", "replace"]  # what a job lists: the whole index, more of it, or in place of it
Held = dict[str, tuple[PartEntry, PluginRef]]  # by name; never a compacted part
Segments = Callable[[tuple[PartEntry, ...], Version | None], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Changed:
    """A version, and how many parts it has that its parent had not, had otherwise, or had alone."""

    version: Version
    added: int = 0
    replaced: int = 0
    dropped: int = 0


def held(store: Store, version: Version | None) -> Held:
    """What a version has. Raises DamagedIndex."""
    if version is None:
        return {}
    return {name: (part, version.readers[part.reader]) for name, part in listing(store, version).items()}


def put(
    store: Store,
    config: IndexConfig,
    change: Callable[[Version | None, Held], tuple[Held, Collection[str]]],
    segments: Segments,
) -> Changed:
    """The next version, on whatever parent is current by then; the parent itself where nothing changes.

    `change(parent, what it holds)` gives what is held now, and the parts that are missing.
    Raises what publish raises.
    """
    while True:
        parent = latest(store)
        before = held(store, parent)
        now, missing = change(parent, dict(before))
        parts, readers = _numbered(now)
        version = Version(
            number=parent.number + 1 if parent else 1,
            parent=parent.number if parent else 0,
            parts=settle(store, config, parts, parent),
            segments=(),
            readers=readers,
            allow_missing=tuple(sorted(missing)),
        )
        version = replace(version, segments=segments(version.parts, parent))
        if parent and replace(version, number=parent.number, parent=parent.parent) == parent:
            return Changed(parent)
        try:
            publish(store, version)
        except VersionTaken:
            continue
        digests = {name: part.digest for name, (part, _) in before.items()}
        return Changed(
            version,
            len(now.keys() - before.keys()),
            sum(part.digest != digests.get(name, part.digest) for name, (part, _) in now.items()),
            len(before.keys() - now.keys()),
        )


def _numbered(
    now: Mapping[str, tuple[PartEntry, PluginRef]],
) -> tuple[list[PartEntry], tuple[PluginRef, ...]]:
    """The parts with the numbers of their readers, and these, in the order of their first part."""
    readers: list[PluginRef] = []
    parts: list[PartEntry] = []
    for name in sorted(now):
        part, ref = now[name]
        if ref not in readers:
            readers.append(ref)
        parts.append(replace(part, reader=readers.index(ref)))
    return parts, tuple(readers)


def refuse_clashes(
    store: Store,
    version: Version | None,
    reader: Reader,
    ref: PluginRef,
    parts: Collection[str],
    drop: Sequence[str],
    mode: Mode,
) -> None:
    """Says before anything is encoded what could not be published after.

    Raises ReaderError for a part that is current, from another reader (unless `mode` is "replace") and for
    an id that other parts have.
    """
    every = held(store, version)
    inside = without(every, drop)
    for name in sorted(inside.keys() & set(parts)):
        theirs = inside[name][1]
        if mode == "add" and _source(theirs) != _source(ref):
            raise ReaderError(
                f"part {name!r} is current, from another reader ({_told(theirs)}); say --replace to put "
                f"this one's ({_told(ref)}) in its place, or have the reader name its parts otherwise"
            )
    check_ids([*_others(store, version, {*parts, *(every.keys() - inside.keys())}), *_listed(reader, parts)])


def without(inside: Held, drop: Sequence[str]) -> Held:
    """What is held after parts that match a pattern have gone. Raises ReaderError where none matches."""
    gone: set[str] = set()
    for pattern in drop:
        found = set(fnmatch.filter(inside, pattern))
        if not found:
            close = get_close_matches(pattern, inside, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ReaderError(
                f"no current part is called {pattern!r}; {hint}`crater-ray parts list` names all"
            )
        gone |= found
    return {name: part for name, part in inside.items() if name not in gone}


def drop(store: Store, patterns: Sequence[str]) -> Changed:
    """A version without the parts that match. Needs no cluster.

    Raises IndexMismatch where there is no version or another driver writes, ReaderError where a pattern
    matches none, or where nothing would be left.
    """
    config = read_config(store)  # before a lock is left in a folder that is no index
    with DriverLock(store):
        Snapshot(store)  # raises where there is no version

        def change(parent: Version | None, before: Held) -> tuple[Held, Collection[str]]:
            left = without(before, patterns)
            if not left:
                raise ReaderError(
                    f"{store.url} would have no part left; delete the folder to be rid of the index"
                )
            return left, parent.allow_missing if parent else ()

        def segments(parts: tuple[PartEntry, ...], parent: Version | None) -> tuple[str, ...]:
            there = [read_segment(store, sha) for sha in parent.segments] if parent else []
            return segments_for(store, config, parts, parent, *asked(there), build) if there else ()

        return put(store, config, change, segments)


def _others(
    store: Store, version: Version | None, without: Collection[str]
) -> Iterator[tuple[str, pa.ChunkedArray]]:
    for entry in version.parts if version else ():
        ids = open_part(store, entry).items(["id"]).column("id")
        first = 0
        for part in members(store, entry) or (entry,):
            if part.name not in without:
                yield part.name, ids.slice(first, part.rows)
            first += part.rows


def _listed(reader: Reader, parts: Collection[str]) -> Iterator[tuple[str, pa.Array]]:
    for part in parts:
        yield part, pa.array([item.id for item in reader.read(part)], pa.string())


def _source(ref: PluginRef) -> tuple[object, ...]:
    return ref.name, ref.distribution, registry().chosen(ref).options


def _told(ref: PluginRef) -> str:
    return ", ".join([ref.name, *(f"{key} = {value}" for key, value in sorted(ref.options.items())[:3])])
