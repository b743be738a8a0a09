"""The shortlist over several parts, named by what it is made of; never changed once there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from crater_ray.errors import DamagedIndex, IndexMismatch
from crater_ray.files import Sum, remove_folder, storage_full, sum_of, sync_file, write_stream, writing
from crater_ray.index.checksummed_json import canonical, checksummed, read_checksummed
from crater_ray.index.parts import PartEntry
from crater_ray.index.store import SEGMENT, SEGMENTS, Copy, Store, attempt

SHORTLIST = "shortlist.faiss"
AUTO = "auto"  # what a job asks for where a rule of the vectors' number may choose the factory
Write = Callable[[Path], Mapping[str, Any] | None]  # makes the FAISS file; what was measured of it
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
    quantizer: str | None = None  # sha, in fitted/ too, of what the FAISS index learnt; segments share it
    auto: bool = False  # whether a rule chose the factory; one of Flat may be followed by any
    tuning: Mapping[str, Any] | None = None  # nlist, nprobe, recall, k, candidates, queries: search/nprobe.py
    attempt: str = ""  # on object storage, the key that its file is below

    def copies(self) -> list[Copy]:
        """What of it is copied from object storage."""
        if not self.attempt or self.file is None or self.sum is None:
            return []
        return [Copy(self.file, f"{SEGMENTS}/{self.sha}/{self.attempt}/{self.file.name}", self.sum)]

    @property
    def rows(self) -> int:
        return sum(rows for _, _, rows in self.parts)

    @property
    def learnt(self) -> tuple[str, ...]:
        """What it needs of fitted/, by sha."""
        return tuple(sha for sha in (self.fitted, self.quantizer) if sha is not None)

    @property
    def asked(self) -> str:
        """The factory as a job asks for it."""
        return AUTO if self.auto else self.factory

    def told(self) -> str:
        """What the shortlist index is, in a line; of one that was measured, its recall."""
        line = f"{self.factory} over {self.rows * self.m:,} vectors"
        if self.tuning is None:
            return line
        nprobe = "nprobe {nprobe:,} of {nlist:,} lists, " if self.tuning["nlist"] else ""
        recall = "{recall:.1%} of the exact first {k} among {candidates} candidates"
        return f"{line}: " + (nprobe + recall).format(**self.tuning)


@dataclass(frozen=True, slots=True)
class ShortlistSpec:
    """How the shortlist is built over some parts."""

    factory: str  # a FAISS factory string
    seed: int
    m: int  # vectors an image
    dim: int
    fitted: str | None = None  # as of a Segment; so are the next two
    quantizer: str | None = None
    auto: bool = False


def segment_key(parts: Sequence[PartEntry], how: ShortlistSpec) -> str:
    """xxh3_128 hex of the parts in order and of how the shortlist is built over them."""
    made_of = [[[part.name, part.digest, part.rows] for part in parts], how.factory, how.seed, how.m, how.dim]
    # younger than the segments in use: what is not there stays out
    later = [how.fitted, how.quantizer, how.auto or None]
    while later and later[-1] is None:
        later.pop()
    return str(xxhash.xxh3_128_hexdigest(canonical([*made_of, *later])))


def write_segment(
    store: Store, parts: Sequence[PartEntry], how: ShortlistSpec, write: Write | None = None
) -> str:
    """The sha of the segment that now stands; `write(path)` makes its FAISS file, None where there is none.

    A whole one that stands already is kept. Raises StorageFull, and what `write` raises.
    """
    sha = segment_key(parts, how)
    if _stands(store, sha):
        return sha
    own = attempt(store, f"segment.{sha[:8]}")
    commit_id = store.commit_id()
    try:
        made, tuning = _write_file(own / SHORTLIST, write) if write is not None else (None, None)
        later = {"quantizer": how.quantizer, "auto": how.auto or None, "tuning": tuning and dict(tuning)}
        payload = {
            "format": 1,
            "sha": sha,
            "parts": [[part.name, part.digest, part.rows] for part in parts],
            "factory": how.factory,
            "seed": how.seed,
            "m": how.m,
            "dim": how.dim,
            "fitted": how.fitted,
            "file": None if made is None else made.payload(),
            **{name: value for name, value in later.items() if value is not None},
            **({"attempt": commit_id} if commit_id else {}),
        }
        write_stream(own / SEGMENT, checksummed(payload))
        store.publish(own, f"{SEGMENTS}/{sha}", SEGMENT, commit_id, lambda: _stands(store, sha))
    finally:
        remove_folder(own)
    return sha


def read_segment(store: Store, sha: str) -> Segment:
    """Raises DamagedIndex naming the file that is missing or not as long as it was."""
    segment = read_record(store, sha)
    check_size(segment)
    return segment


def read_record(store: Store, sha: str) -> Segment:
    """What segment.json says, its file unchecked. Raises DamagedIndex naming segment.json."""
    place = store.local / SEGMENTS / sha
    if not store.fetch(f"{SEGMENTS}/{sha}/{SEGMENT}") and not place.is_dir():
        raise DamagedIndex(f"{place} is missing; run `crater-ray index` again to make it")
    plain = read_checksummed(place / SEGMENT, "what the segment spans")
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
            None if made is None else place / SHORTLIST,
            made,
            plain.get("fitted"),
            plain.get("quantizer"),
            bool(plain.get("auto")),
            plain.get("tuning"),
            plain.get("attempt", ""),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedIndex(f"{place / SEGMENT} lacks a field ({error}); {_AGAIN}") from None
    if segment.sha != sha:
        raise DamagedIndex(f"{place / SEGMENT} tells of segment {segment.sha}; {_AGAIN}")
    return segment


def check_size(segment: Segment) -> None:
    """Raises DamagedIndex when the FAISS file is missing or not as long as it was."""
    if segment.attempt:
        return  # checked when it is copied
    if segment.file is not None and segment.sum is not None:
        size = os.stat(segment.file).st_size if segment.file.exists() else None
        if size != segment.sum.bytes:
            state = "is missing" if size is None else f"has {size} bytes, not {segment.sum.bytes}"
            raise DamagedIndex(f"{segment.file} {state}; {_AGAIN}")


def check_segment(segment: Segment) -> None:
    """Reads the whole FAISS file: a flipped bit there would load silently. Raises DamagedIndex.

    A copy of what lies on object storage is looked after by Store.download.
    """
    check_size(segment)
    if not segment.attempt and segment.file is not None and sum_of(segment.file) != segment.sum:
        raise DamagedIndex(f"{segment.file} does not match its checksum; {_AGAIN}")


def _stands(store: Store, sha: str) -> bool:
    try:
        read_segment(store, sha)
    except (DamagedIndex, IndexMismatch):
        return False
    return True


def _write_file(path: Path, write: Write) -> tuple[Sum, Mapping[str, Any] | None]:
    with writing(path):
        try:
            tuning = write(path)
        except RuntimeError as error:  # FAISS: the reason is in the text alone
            if "No space left" in str(error) or "quota" in str(error).lower():
                raise storage_full(path) from error
            raise
        sync_file(path)
    return sum_of(path), tuning
