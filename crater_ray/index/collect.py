"""Old versions, and what only they refer to, removed; never one that a reader holds."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from crater_ray.errors import IndexMismatch
from crater_ray.index.bucket import folder, only_on_disk
from crater_ray.index.fitted import fitted_path
from crater_ray.index.lock import DriverLock
from crater_ray.index.pins import Claim
from crater_ray.index.recipe import read_recipe
from crater_ray.index.sealed import seal, unseal
from crater_ray.index.segments import read_record as read_segment
from crater_ray.index.store import PARTS, SEGMENTS, VERSIONS, write_whole
from crater_ray.index.versions import Version, numbers, read, read_file, version_path

COLLECTED = "collected.json"  # in versions/: the numbers there were
GONE = ".gone"  # a version on its way out: what only it refers to is still being removed
KEPT = 2  # the version in force, and one to go back to


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


def collect(root: Path, keep: int = KEPT, *, force: bool = False, dry: bool = False) -> Collected:
    """Removes all but the newest `keep` versions and those that are read, and what nothing else refers to.

    Parts that no version ever listed stay: a job that was stopped finds them again. Killed half way, the
    next call ends the work. Raises IndexMismatch where the file system cannot say who reads (unless
    `force`) or another driver writes, DamagedIndex for a version that cannot be read.
    """
    if keep < 1:
        raise ValueError(f"keep is {keep}; the version in force always stays")
    root = Path(root)
    only_on_disk(root, "nobody can tell there who reads a version, so nothing of it is collected")
    recipe = read_recipe(root)
    with DriverLock(root):
        old = numbers(root)[:-keep]
        leaving, held = [], []
        for number in old:
            with Claim(root, number) as claim:
                if not claim.known and not force:
                    raise IndexMismatch(
                        f"{root} is on a file system without locks, so nobody can tell whether version "
                        f"{number} is read; stop what reads it and say --force"
                    )
                if claim.free or not claim.known:
                    leaving.append(number)
                    if not dry:
                        _leave(root, number)
                else:
                    held.append(number)
        gone = {number: read_file(path, number) for number, path in _gone(root).items()}
        if dry:
            gone |= {number: read(root, number) for number in leaving}
        staying = [read(root, number) for number in numbers(root) if number not in gone]
        garbage = _garbage(root, gone.values(), staying, set(recipe.fits.values()))
        size = sum(_size(path) for path in garbage)
        if not dry:
            for path in [*garbage, *_half_removed(root)]:
                _remove(path)
            for path in _gone(root).values():
                path.unlink()
    counts = [sum(path.parent.name == folder for path in garbage) for folder in (PARTS, SEGMENTS)]
    return Collected(tuple(sorted(gone)), tuple(held), counts[0], counts[1], size)


def collected(root: Path) -> set[int]:
    """The numbers of versions that were collected. Raises DamagedIndex."""
    path = folder(root) / VERSIONS / COLLECTED
    if not path.exists():
        return set()
    return set(unseal(path, "which versions were collected")["numbers"])


def _leave(root: Path, number: int) -> None:
    """The version is no more, in one rename; its own words say what is still to be removed."""
    path = root / VERSIONS / COLLECTED
    write_whole(root, path, seal({"format": 1, "numbers": sorted({*collected(root), number})}))
    os.rename(version_path(root, number), version_path(root, number).with_suffix(GONE))


def _gone(root: Path) -> dict[int, Path]:
    found = sorted((root / VERSIONS).glob(f"*{GONE}"))
    return {int(path.stem): path for path in found if re.fullmatch("[1-9][0-9]*", path.stem)}


def _garbage(root: Path, gone: Iterable[Version], staying: Iterable[Version], fits: set[str]) -> list[Path]:
    """What only versions that are gone refer to, and is there: fits, parts, segments, in that order.

    A segment names its fit: it goes last.
    """
    theirs, ours = _references(root, gone, half=True), _references(root, staying)
    ours |= {fitted_path(root, sha) for sha in fits}
    return sorted(path for path in theirs - ours if path.exists())


def _references(root: Path, versions: Iterable[Version], half: bool = False) -> set[Path]:
    """Folders and files that versions refer to; `half`: some may have been removed by a call before."""
    found: set[Path] = set()
    for version in versions:
        found |= {root / PARTS / part.folder for part in version.parts}
        for sha in version.segments:
            found.add(root / SEGMENTS / sha)
            if not half or (root / SEGMENTS / sha).is_dir():
                found |= {fitted_path(root, learnt) for learnt in read_segment(root, sha).learnt}
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


def _half_removed(root: Path) -> list[Path]:
    return [path for folder in (PARTS, SEGMENTS) for path in (root / folder).glob(f".*{GONE}")]


def _some(found: Iterable[int]) -> str:
    return ", ".join(map(str, found)) or "none"
