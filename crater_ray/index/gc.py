"""Old versions, and what only they refer to, removed; never one that a reader holds."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

from crater_ray.errors import IndexMismatch
from crater_ray.index.checksummed_json import checksummed, read_checksummed
from crater_ray.index.config import read_config
from crater_ray.index.fitted import fitted_key
from crater_ray.index.leases import Claim
from crater_ray.index.lock import DriverLock
from crater_ray.index.segments import read_record as read_segment
from crater_ray.index.store import FITTED, GONE, PART, PARTS, SEGMENT, SEGMENTS, VERSIONS, Store
from crater_ray.index.versions import Version, numbers, read, read_file, version_key

COLLECTED = "collected.json"  # in versions/: the numbers there were
KEPT = 2  # the current version, and one to go back to
_RECORDS = {PARTS: PART, SEGMENTS: SEGMENT}


@dataclass(frozen=True, slots=True)
class Collected:
    """What was removed, or would be."""

    versions: tuple[int, ...]
    held: tuple[int, ...]  # old, and read by somebody
    parts: int
    segments: int
    bytes: int
    recent: tuple[int, ...] = ()  # old, and replaced less than the grace period ago
    uploads: int = 0  # that did not finish

    def as_text(self) -> str:
        line = f"versions {_some(self.versions)}: {self.parts} parts, {self.segments} segments, "
        line += f"{self.uploads} unfinished uploads, " if self.uploads else ""
        lines = [f"{line}{self.bytes:,} bytes"]
        if self.held:
            lines.append(f"versions {_some(self.held)} are kept: somebody reads them")
        if self.recent:
            lines.append(f"versions {_some(self.recent)} are kept: they were replaced a short while ago")
        return "\n".join(lines)


def collect(
    store: Store,
    keep: int = KEPT,
    *,
    force: bool = False,
    dry: bool = False,
    grace: timedelta | None = None,
) -> Collected:
    """Removes all but the newest `keep` versions and those that are read, and what nothing else refers to.

    A version stays for `grace` after another took its place; None: as long as its store asks for. Parts that
    no version ever listed stay: a job that was stopped finds them again. Killed half way, the next call ends
    the work. Raises IndexMismatch where the file system cannot say who reads (unless `force`) or another
    driver writes, DamagedIndex for a version that cannot be read.
    """
    if keep < 1:
        raise ValueError(f"keep is {keep}; the current version always stays")
    grace = store.grace if grace is None else grace
    config = read_config(store)
    with DriverLock(store), store.collecting():
        known = numbers(store)
        successor = dict(pairwise(known))
        elsewhere = store.readers()
        leaving, held, recent = [], [], []
        for number in known[:-keep]:
            if grace and store.age(version_key(successor[number])) < grace:
                recent.append(number)
                continue
            read(store, number)  # a copy of it is here, and locked by who reads it here
            with Claim(store, number) as claim:
                if not claim.known and not force:
                    raise IndexMismatch(
                        f"{store.url} is on a file system without locks, so nobody can tell whether version "
                        f"{number} is read; stop what reads it and say --force"
                    )
                if number not in elsewhere and (claim.free or not claim.known):
                    leaving.append(number)
                    if not dry:
                        _leave(store, number)
                else:
                    held.append(number)
        gone = _gone(store)
        late = store.readers() & gone.keys()  # who found it there in the meantime has said so by now
        if dry:
            gone |= {number: read(store, number) for number in leaving}
        removed = {number: version for number, version in gone.items() if number not in late}
        staying = [read(store, number) for number in numbers(store) if number not in removed]
        staying += [gone[number] for number in late]
        sizes = {
            f"{folder}/{name}": size
            for folder in (FITTED, PARTS, SEGMENTS)
            for name, size in store.sizes(folder).items()
        }
        garbage = _garbage(store, removed.values(), staying, set(config.fits.values()), sizes.keys())
        uploads = [
            key
            for key in store.unfinished()
            if key.rpartition("/")[0] not in garbage and store.age(key) >= grace
        ]
        size = sum(sizes[key] for key in garbage) + sum(sum(store.sizes(key).values()) for key in uploads)
        if not dry:
            for key in garbage:
                store.remove_all(key, _RECORDS.get(key.partition("/")[0], ""))
            for key in uploads:
                store.remove_all(key)
            store.end_removals()
            for number in removed:
                store.remove(_gone_key(number))
    return Collected(
        versions=tuple(sorted(removed)),
        held=tuple(sorted({*held, *late})),
        parts=sum(key.startswith(f"{PARTS}/") for key in garbage),
        segments=sum(key.startswith(f"{SEGMENTS}/") for key in garbage),
        bytes=size,
        recent=tuple(recent),
        uploads=len(uploads),
    )


def collected(store: Store) -> set[int]:
    """The numbers of versions that were collected. Raises DamagedIndex."""
    key = f"{VERSIONS}/{COLLECTED}"
    if not store.fetch(key, fresh=True):
        return set()
    return set(read_checksummed(store.local / key, "which versions were collected")["numbers"])


def _leave(store: Store, number: int) -> None:
    """The version is no more, in one rename; its own words say what is still to be removed."""
    data = checksummed({"format": 1, "numbers": sorted({*collected(store), number})})
    store.put(f"{VERSIONS}/{COLLECTED}", data)
    store.rename(version_key(number), _gone_key(number))


def _gone_key(number: int) -> str:
    return f"{VERSIONS}/{number}{GONE}"


def _gone(store: Store) -> dict[int, Version]:
    """Versions on their way out, by number."""
    names = store.names(VERSIONS)
    found = [int(name.removesuffix(GONE)) for name in names if re.fullmatch(rf"[1-9][0-9]*\{GONE}", name)]
    there = set(numbers(store))  # one that is there too is still leaving
    gone = {}
    for number in sorted(set(found) - there):
        store.fetch(_gone_key(number))
        gone[number] = read_file(store.local / _gone_key(number), number)
    return gone


def _garbage(
    store: Store,
    gone: Iterable[Version],
    staying: Iterable[Version],
    fits: set[str],
    there: Collection[str],
) -> list[str]:
    """Keys of what only versions that are gone refer to, and is there: fits, parts, segments, in that order.

    A segment names its fit: it goes last.
    """
    theirs, ours = _references(store, gone, half=True), _references(store, staying)
    ours |= {fitted_key(sha) for sha in fits}
    return sorted(key for key in theirs - ours if key in there)


def _references(store: Store, versions: Iterable[Version], half: bool = False) -> set[str]:
    """Keys that versions refer to; `half`: some may have been removed by a call before."""
    found: set[str] = set()
    for version in versions:
        found |= {f"{PARTS}/{part.folder}" for part in version.parts}
        for sha in version.segments:
            found.add(f"{SEGMENTS}/{sha}")
            if not half or store.fetch(f"{SEGMENTS}/{sha}/{SEGMENT}"):
                found |= {fitted_key(learnt) for learnt in read_segment(store, sha).learnt}
    return found


def _some(found: Iterable[int]) -> str:
    return ", ".join(map(str, found)) or "none"
