"""How much room copies of what lies on object storage take: least recently used ones go first.

A copy's time of change says when it was last used. What an open version needs stays, and so do the copies of
an index that a driver of this machine writes, and what was used a short while ago.
"""

from __future__ import annotations

import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from crater_ray.errors import ConfigError, CraterRayError
from crater_ray.files import lock_file
from crater_ray.index.leases import Claim
from crater_ray.index.store import LOCK, PARTS, SEGMENTS, VERSIONS, FolderStore
from crater_ray.index.versions import read_file

SIZE = "CRATER_RAY_CACHE_SIZE"
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BELIEVED = 10.0  # seconds: looking at every copy takes a while
_JUST_USED = 600.0  # seconds: who copies a part for itself alone has no version open


_found: dict[Path, tuple[int, float]] = {}  # bytes that were left, and until when that is believed


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    bytes: int
    used: float


def cache_size() -> int | None:
    """Bytes that copies may take, as $CRATER_RAY_CACHE_SIZE says; None: any number. Raises ConfigError."""
    told = os.environ.get(SIZE, "").strip()
    if not told:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?B)?", told.upper())
    if found is None:
        raise ConfigError(f"{SIZE} is {told!r}; write it as 500MB, 200GB or 2TB")
    return int(float(found[1]) * _UNITS[found[2] or "B"])


def make_room(indexes: Path, needed: int, size: int) -> None:
    """Removes copies below `indexes` until `needed` bytes more fit into `size`; warns where they do not.

    What it found is believed for some seconds.
    """
    left, until = _found.get(indexes, (0, 0.0))
    if needed <= left and time.monotonic() < until:
        _found[indexes] = left - needed, until
        return
    every = {root: list(_files(root)) for root in indexes.iterdir() if root.is_dir()}
    taken = sum(file.bytes for files in every.values() for file in files) + needed
    if taken > size:
        taken = _removed(every, taken, size)
    _found[indexes] = max(0, size - taken), time.monotonic() + _BELIEVED
    if taken > size:
        warnings.warn(
            f"copies of what is in use take {taken:,} bytes in {indexes}, more than {SIZE} = "
            f"{os.environ.get(SIZE)}; nothing that is open is removed",
            stacklevel=2,
        )


def _removed(every: Mapping[Path, list[_File]], taken: int, size: int) -> int:
    """What is taken after copies that nobody uses have gone."""
    with ExitStack() as held:
        free = [file for root, files in every.items() for file in _unused(root, files, held)]
        for file in sorted(free, key=lambda file: file.used):
            if taken <= size:
                break
            with suppress(FileNotFoundError):  # another process makes room too
                file.path.unlink()
            taken -= file.bytes
    return taken


def _files(root: Path) -> Iterator[_File]:
    """Copies of what an index holds; its records take next to nothing, and stay."""
    for inside in (PARTS, SEGMENTS):
        for path in (root / inside).glob("*/*"):
            if path.suffix != ".json":
                with suppress(FileNotFoundError):
                    found = path.stat()
                    yield _File(path, found.st_size, found.st_mtime)


def _unused(root: Path, files: list[_File], held: ExitStack) -> list[_File]:
    """Of an index's copies those that nobody uses; until `held` ends, nobody opens a version of it."""
    if _driven(root):
        return []
    store, open_now = FolderStore(root), set()
    for path in (root / VERSIONS).glob("*.json"):
        if not re.fullmatch("[1-9][0-9]*", path.stem):
            continue
        try:
            version = read_file(path, int(path.stem))
            claim = held.enter_context(Claim(store, version.number))
        except (CraterRayError, FileNotFoundError):
            continue  # it cannot be opened
        if not claim.free:
            open_now |= {f"{PARTS}/{part.folder}" for part in version.parts}
            open_now |= {f"{SEGMENTS}/{sha}" for sha in version.segments}
    before = time.time() - _JUST_USED
    return [
        file
        for file in files
        if file.used < before and str(file.path.parent.relative_to(root)) not in open_now
    ]


def _driven(root: Path) -> bool:
    """Whether a driver of this machine writes the index, or nobody can tell."""
    try:
        handle = lock_file(root / LOCK)
    except OSError:
        return True
    if handle is not None:
        os.close(handle)
    return handle is None
