"""Stage one over several parts, named by what it is made of; never changed once there."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash

from crater_ray.errors import DamagedIndex, IndexMismatch
from crater_ray.index.parts import PartEntry
from crater_ray.index.sealed import canonical, seal, unseal
from crater_ray.index.store import (
    SEGMENTS,
    Stream,
    Sum,
    attempt,
    move_folder,
    remove_folder,
    room,
    storage_full,
    sum_of,
    sync_file,
)

SEGMENT, SHORTLIST = "segment.json", "shortlist.faiss"
_AGAIN = "delete the segment's folder and run `crater-ray index` again"


@dataclass(frozen=True, slots=True)
class Segment:
    """One searchable stretch of rows: those of its parts, in order."""

    sha: str
    parts: tuple[tuple[str, str, int], ...]  # name, digest, rows
    factory: str  # a FAISS factory string
    seed: int
    m: int  # vectors an image
    dim: int
    file: Path | None  # shortlist.faiss; None: the parts' own vectors are enough
    sum: Sum | None = None  # of the file
    fitted: str | None = None  # sha of what is done to vectors before they are compared; None: nothing

    @property
    def rows(self) -> int:
        return sum(rows for _, _, rows in self.parts)


def segment_key(
    parts: Sequence[PartEntry], *, factory: str, seed: int, m: int, dim: int, fitted: str | None = None
) -> str:
    """xxh3_128 hex of the parts in order and of how stage one is built over them."""
    made_of = [[[part.name, part.digest, part.rows] for part in parts], factory, seed, m, dim]
    return str(xxhash.xxh3_128_hexdigest(canonical([*made_of, fitted] if fitted else made_of)))


def write_segment(
    root: Path,
    parts: Sequence[PartEntry],
    *,
    factory: str,
    seed: int,
    m: int,
    dim: int,
    fitted: str | None = None,
    write: Callable[[Path], None] | None = None,
) -> str:
    """The sha of the segment that now stands; `write(path)` makes its FAISS file, None where there is none.

    A whole one that stands already is kept. Raises StorageFull, and what `write` raises.
    """
    sha = segment_key(parts, factory=factory, seed=seed, m=m, dim=dim, fitted=fitted)
    if _stands(root, sha):
        return sha
    target = root / SEGMENTS / sha
    folder = attempt(root, f"segment.{sha[:8]}")
    try:
        made = _write_file(root, folder / SHORTLIST, write) if write is not None else None
        payload = {
            "format": 1,
            "sha": sha,
            "parts": [[part.name, part.digest, part.rows] for part in parts],
            "factory": factory,
            "seed": seed,
            "m": m,
            "dim": dim,
            "fitted": fitted,
            "file": None if made is None else made.payload(),
        }
        with Stream(root, folder / SEGMENT) as stream:
            stream.write(seal(payload))
            stream.close()
        if not move_folder(root, folder, target) and not _stands(root, sha):
            target.rename(attempt(root, f"damaged.segment.{sha[:8]}"))
            move_folder(root, folder, target)
    finally:
        remove_folder(folder)
    return sha


def read_segment(root: Path, sha: str) -> Segment:
    """Raises DamagedIndex naming the file that is missing or not as long as it was."""
    segment = read_record(root, sha)
    check_size(segment)
    return segment


def read_record(root: Path, sha: str) -> Segment:
    """What segment.json says, its file unchecked. Raises DamagedIndex naming segment.json."""
    folder = root / SEGMENTS / sha
    if not folder.is_dir():
        raise DamagedIndex(f"{folder} is missing; run `crater-ray index` again to make it")
    plain = unseal(folder / SEGMENT, "what the segment spans")
    try:
        told = plain["file"]
        made = None if told is None else Sum(**told)
        parts = tuple((str(name), str(digest), int(rows)) for name, digest, rows in plain["parts"])
        segment = Segment(
            plain["sha"],
            parts,
            plain["factory"],
            plain["seed"],
            plain["m"],
            plain["dim"],
            None if made is None else folder / SHORTLIST,
            made,
            plain.get("fitted"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedIndex(f"{folder / SEGMENT} lacks a field ({error}); {_AGAIN}") from None
    if segment.sha != sha:
        raise DamagedIndex(f"{folder / SEGMENT} tells of segment {segment.sha}; {_AGAIN}")
    return segment


def check_size(segment: Segment) -> None:
    """Raises DamagedIndex when the FAISS file is missing or not as long as it was."""
    if segment.file is not None and segment.sum is not None:
        size = os.stat(segment.file).st_size if segment.file.exists() else None
        if size != segment.sum.bytes:
            state = "is missing" if size is None else f"has {size} bytes, not {segment.sum.bytes}"
            raise DamagedIndex(f"{segment.file} {state}; {_AGAIN}")


def check_segment(segment: Segment) -> None:
    """Reads the whole FAISS file: a flipped bit there would load silently. Raises DamagedIndex."""
    check_size(segment)
    if segment.file is not None and sum_of(segment.file) != segment.sum:
        raise DamagedIndex(f"{segment.file} does not match its checksum; {_AGAIN}")


def _stands(root: Path, sha: str) -> bool:
    try:
        read_segment(root, sha)
    except (DamagedIndex, IndexMismatch):
        return False
    return True


def _write_file(root: Path, path: Path, write: Callable[[Path], None]) -> Sum:
    with room(root, path):
        try:
            write(path)
        except RuntimeError as error:  # FAISS: the reason is in the text alone
            if "No space left" in str(error) or "quota" in str(error).lower():
                raise storage_full(root, path) from error
            raise
        sync_file(path)
    return sum_of(path)
