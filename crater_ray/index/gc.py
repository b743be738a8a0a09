"""Old versions, and what only they refer to, removed; never one that a reader holds."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from crater_ray.errors import IndexMismatch
from crater_ray.index.checksummed_json import checksummed, read_checksummed
from crater_ray.index.config import read_config
from crater_ray.index.fitted import fitted_path
from crater_ray.index.leases import Claim
from crater_ray.index.lock import DriverLock
from crater_ray.index.segments import read_record as read_segment
from crater_ray.index.store import PARTS, SEGMENTS, VERSIONS, Store
from crater_ray.index.versions import Version, numbers, read, read_file, version_path

COLLECTED = "collected.json"  # in versions/: the numbers there were
GONE = ".gone"  # a version on its way out: what only it refers to is still being removed
KEPT = 2  # the current version, and one to go back to


@dataclass(frozen=True, slots=True)
class Collected:
    """What was removed, or would be."""

    versions: tuple[int, ...]
    held: tuple[int, ...]  # old, and read by somebody
    parts: int
    segments: int
    bytes: int

    def as_text(self) -> str:
        lines = [f"versions {_some(self.versions)}: {self.parts} parts, {self.segments} segments, "]
        lines[0] += f"{self.bytes:,} bytes"
        if self.held:
            lines.append(f"versions {_some(self.held)} are kept: somebody reads them")
        return "\n".join(lines)


def collect(store: Store, keep: int = KEPT, *, force: bool = False, dry: bool = False) -> Collected:
    """Removes all but the newest `keep` versions and those that are read, and what nothing else refers to.

    Parts that no version ever listed stay: a job that was stopped finds them again. Killed half way, the
    next call ends the work. Raises IndexMismatch where the file system cannot say who reads (unless
    `force`) or another driver writes, DamagedIndex for a version that cannot be read.
    """
    if keep < 1:
        raise ValueError(f"keep is {keep}; the current version always stays")
    store.as_folder("nobody can tell there who reads a version, so old ones stay")
    config = read_config(store)
    with DriverLock(store):
        old = numbers(store)[:-keep]
        leaving, held = [], []
        for number in old:
            with Claim(store, number) as claim:
                if not claim.known and not force:
                    raise IndexMismatch(
                        f"{store.url} is on a file system without locks, so nobody can tell whether version "
                        f"{number} is read; stop what reads it and say --force"
                    )
                if claim.free or not claim.known:
                    leaving.append(number)
                    if not dry:
                        _leave(store, number)
                else:
                    held.append(number)
        gone = {number: read_file(path, number) for number, path in _gone(store).items()}
        if dry:
            gone |= {number: read(store, number) for number in leaving}
        staying = [read(store, number) for number in numbers(store) if number not in gone]
        garbage = _garbage(store, gone.values(), staying, set(config.fits.values()))
        size = sum(_size(path) for path in garbage)
        if not dry:
            for path in [*garbage, *_half_removed(store)]:
                _remove(path)
            for path in _gone(store).values():
                path.unlink()
    counts = [sum(path.parent.name == folder for path in garbage) for folder in (PARTS, SEGMENTS)]
    return Collected(tuple(sorted(gone)), tuple(held), counts[0], counts[1], size)


def collected(store: Store) -> set[int]:
    """The numbers of versions that were collected. Raises DamagedIndex."""
    path = store.local / VERSIONS / COLLECTED
    if not path.exists():
        return set()
    return set(read_checksummed(path, "which versions were collected")["numbers"])


def _leave(store: Store, number: int) -> None:
    """The version is no more, in one rename; its own words say what is still to be removed."""
    data = checksummed({"format": 1, "numbers": sorted({*collected(store), number})})
    store.put(f"{VERSIONS}/{COLLECTED}", data)
    os.rename(version_path(store, number), version_path(store, number).with_suffix(GONE))


def _gone(store: Store) -> dict[int, Path]:
    found = sorted((store.local / VERSIONS).glob(f"*{GONE}"))
    return {int(path.stem): path for path in found if re.fullmatch("[1-9][0-9]*", path.stem)}


def _garbage(store: Store, gone: Iterable[Version], staying: Iterable[Version], fits: set[str]) -> list[Path]:
    """What only versions that are gone refer to, and is there: fits, parts, segments, in that order.

    A segment names its fit: it goes last.
    """
    theirs, ours = _references(store, gone, half=True), _references(store, staying)
    ours |= {fitted_path(store, sha) for sha in fits}
    return sorted(path for path in theirs - ours if path.exists())


def _references(store: Store, versions: Iterable[Version], half: bool = False) -> set[Path]:
    """Folders and files that versions refer to; `half`: some may have been removed by a call before."""
    found: set[Path] = set()
    for version in versions:
        found |= {store.local / PARTS / part.folder for part in version.parts}
        for sha in version.segments:
            found.add(store.local / SEGMENTS / sha)
            if not half or (store.local / SEGMENTS / sha).is_dir():
                found |= {fitted_path(store, learnt) for learnt in read_segment(store, sha).learnt}
    return found


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _remove(path: Path) -> None:
    if path.is_file():
        path.unlink()
        return
    aside = path
    if path.suffix != GONE:  # what is half removed must not look like a part
        aside = path.with_name(f".{path.name}{GONE}")
        os.rename(path, aside)
    shutil.rmtree(aside)


def _half_removed(store: Store) -> list[Path]:
    return [path for folder in (PARTS, SEGMENTS) for path in (store.local / folder).glob(f".*{GONE}")]


def _some(found: Iterable[int]) -> str:
    return ", ".join(map(str, found)) or "none"
