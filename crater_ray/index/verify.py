"""Whether an index is what was written: every checksum of every file, and what it holds in a few numbers."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from crater_ray.errors import CraterRayError, StorageError
from crater_ray.index.bucket import Bucket, afresh, bucket, folder
from crater_ray.index.collect import COLLECTED, GONE, collected
from crater_ray.index.copies import bring, fetch
from crater_ray.index.fitted import fitted_path, read_fitted
from crater_ray.index.opened import Snapshot
from crater_ray.index.parts import (
    CODES,
    ITEMS,
    PART,
    SCALES,
    VECTORS,
    PartEntry,
    Record,
    copies,
    open_part,
    part_folder,
    read_record,
)
from crater_ray.index.recipe import Recipe, read_recipe
from crater_ray.index.sealed import unsealed
from crater_ray.index.segments import SEGMENT, Segment, check_segment
from crater_ray.index.segments import read_record as read_segment
from crater_ray.index.store import FITTED, PARTS, RECIPE, SEGMENTS, TMP, VERSIONS, listed, sum_of
from crater_ray.index.versions import Version, check_ids, numbers, read, union_schema, version_path
from crater_ray.jobfile import told as said

_RECORDS = {PARTS: PART, SEGMENTS: SEGMENT}
_UNFINISHED = "left by an attempt that did not finish; delete it when no job is running"
_MEND = "delete the part's folder and run `crater-ray index` again"


@dataclass(frozen=True, slots=True)
class Problem:
    """A file or folder, relative to the index, and what is wrong with it."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found: problems make the index unfit for use, notes do not."""

    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...]
    files: int  # read
    bytes: int


def verify(root: Path) -> Verification:
    """Every checksum of the version in force, the JSON of all versions, ids, row counts, leftovers.

    Of an index on object storage every object is read again, whatever was copied before; a copy of one part
    at a time is on the disk meanwhile. Raises IndexMismatch when `root` is not an index at all.
    """
    with afresh(Path(root)):
        return _Check(Path(root)).run()


class _Check:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[Problem] = []
        self.notes: list[Problem] = []
        self.files = self.bytes = 0
        self.known = False  # whether every version could be read, and so what nothing refers to

    def run(self) -> Verification:
        recipe = self._recipe()
        versions = self._versions()
        if versions:
            newest = versions[-1]
            self._parts(newest, recipe)
            fitted = {learnt for sha in newest.segments for learnt in self._segment(sha, newest)}
            for learnt in sorted(fitted):
                self._fitted(learnt)
        self._leftovers(versions)
        return Verification(tuple(self.problems), tuple(self.notes), self.files, self.bytes)

    def _recipe(self) -> Recipe | None:
        if not {RECIPE, VERSIONS} & set(listed(self.root, "")):
            return read_recipe(self.root)  # raises: this is no index
        recipe: Recipe | None = self._try(RECIPE, lambda: read_recipe(self.root))
        for sha in recipe.fits.values() if recipe else ():
            self._fitted(sha)
        return recipe

    def _versions(self) -> list[Version]:
        known = numbers(self.root)
        if not known:
            self.notes.append(Problem(VERSIONS, "no version yet: the first job has not finished"))
        found: list[Version] = []
        gone = self._try(f"{VERSIONS}/{COLLECTED}", lambda: collected(self.root), count=False)
        for number in known:
            name = f"{VERSIONS}/{version_path(self.root, number).name}"
            version = self._try(name, lambda number=number: read(self.root, number))
            if version is not None:
                found.append(version)
                if version.parent and gone is not None and version.parent not in gone.union(known):
                    self._problem(name, f"its parent, version {version.parent}, is missing")
        self.known = len(known) == len(found)
        return found

    def _parts(self, version: Version, recipe: Recipe | None) -> None:
        ids: list[tuple[str, pa.ChunkedArray]] = []
        schemas: list[tuple[str, pa.Schema]] = []
        for entry in version.parts:
            place = part_folder(self.root, entry.name, entry.digest)
            name = f"{PARTS}/{entry.folder}"
            if bucket(self.root) is not None and not self._brought(entry, place, name):
                continue
            if not place.is_dir():
                self._problem(name, "the part is missing; run `crater-ray index` again to make it")
                continue
            record = self._try(f"{name}/{PART}", lambda place=place: read_record(place))
            if record is None or not self._files(place, name, record):
                continue
            column = self._rows(name, entry, record, recipe)
            if column is not None:
                ids.append((entry.name, column))
                schemas.append((entry.name, open_part(self.root, entry).schema))
            if bucket(self.root) is not None:
                shutil.rmtree(place)
        whole = f"{VERSIONS}/{version_path(self.root, version.number).name}"
        self._try(whole, lambda: check_ids(ids), count=False)
        self._try(whole, lambda: union_schema(schemas), count=False)

    def _brought(self, entry: PartEntry, place: Path, name: str) -> bool:
        """Whether a part is copied from object storage, whole; each object that is not is named."""
        if not self._try(f"{name}/{PART}", lambda: fetch(self.root, place / PART), count=False):
            if not any(problem.path.startswith(name) for problem in self.problems):
                self._problem(name, "the part is missing; run `crater-ray index` again to make it")
            return False
        record = self._try(f"{name}/{PART}", lambda: read_record(place), count=False)
        bad = len(self.problems)
        for copy in copies(place, record) if record else ():
            self._try(copy.key, lambda copy=copy: bring(self.root, [copy]), count=False)
        return record is not None and len(self.problems) == bad

    def _files(self, folder: Path, name: str, record: Record) -> bool:
        """Whether every file of a part is as it was written; each bad one is named."""
        good = True
        for file, told in record.files.items():
            path = folder / file
            if not path.is_file():
                self._problem(f"{name}/{file}", f"it is missing; {_MEND}")
                good = False
                continue
            found = sum_of(path)
            self.files, self.bytes = self.files + 1, self.bytes + found.bytes
            if found.bytes != told.bytes:
                self._problem(f"{name}/{file}", f"it has {found.bytes} bytes, not {told.bytes}; {_MEND}")
            elif found.xxh3_128 != told.xxh3_128:
                self._problem(f"{name}/{file}", f"it does not match its checksum; {_MEND}")
            good = good and found == told
        for file in sorted(set(os.listdir(folder)) - {PART, *record.files}):
            self.notes.append(Problem(f"{name}/{file}", "nothing refers to it"))
        return good

    def _rows(
        self, name: str, entry: PartEntry, record: Record, recipe: Recipe | None
    ) -> pa.ChunkedArray | None:
        """The part's ids, when all its files agree on how many rows there are and of what shape."""
        try:
            part = open_part(self.root, entry)
            column = part.items(["id"]).column("id")
            counts = {
                ITEMS: len(column),
                VECTORS: len(part.vectors),
                CODES: len(part.codes),
                SCALES: len(part.scales),
            }
        except (CraterRayError, ValueError) as error:
            self._problem(name, str(error))
            return None
        for file, rows in counts.items():
            if rows != entry.rows:
                self._problem(f"{name}/{file}", f"it has {rows} rows, and the version lists {entry.rows}")
        if len(record.skipped) != entry.skipped:
            self._problem(f"{name}/{PART}", f"it skips {len(record.skipped)} items, not {entry.skipped}")
        shape = record.vectors, record.record_bytes, record.scales
        if recipe and shape != (
            (recipe.shortlist_m, recipe.shortlist_dim),
            recipe.record_bytes,
            recipe.scales,
        ):
            self._problem(f"{name}/{PART}", "its shapes are not the recipe's")
        return column

    def _segment(self, sha: str, version: Version) -> tuple[str, ...]:
        """The shas of what it learnt; segments share that."""
        name = f"{SEGMENTS}/{sha}"
        segment: Segment | None = self._try(f"{name}/{SEGMENT}", lambda: read_segment(self.root, sha))
        if segment is None:
            return ()
        if segment.file is not None:
            file = str(segment.file.relative_to(folder(self.root)))

            def read_all() -> None:
                bring(self.root, segment.copies())
                check_segment(segment)

            self._try(file, read_all)
            self.bytes += segment.sum.bytes if segment.sum else 0
        there = {(part.name, part.digest) for part in version.parts}
        gone = [part for part, digest, _ in segment.parts if (part, digest) not in there]
        if gone:
            self.notes.append(Problem(name, f"{len(gone)} of its parts are not in force: masked"))
        return segment.learnt

    def _fitted(self, sha: str) -> None:
        path = fitted_path(self.root, sha)
        self._try(f"{FITTED}/{path.name}", lambda: read_fitted(self.root, sha))

    def _leftovers(self, versions: list[Version]) -> None:
        parts = {part.folder for version in versions for part in version.parts}
        segments = {sha for version in versions for sha in version.segments}
        for inside, used in ((PARTS, parts), (SEGMENTS, segments)):
            for name in listed(self.root, inside) if self.known else ():
                if name not in used:
                    self.notes.append(Problem(f"{inside}/{name}", "no version refers to it"))
            self._attempts(inside)
        for name in listed(self.root, VERSIONS):
            if name.endswith(GONE):
                self.notes.append(Problem(f"{VERSIONS}/{name}", "half removed; `crater-ray collect` ends it"))
        for name in listed(self.root, TMP):
            self.notes.append(Problem(f"{TMP}/{name}", _UNFINISHED))

    def _attempts(self, inside: str) -> None:
        """Notes what uploads left on object storage that did not become a part or segment."""
        where = bucket(self.root)
        if where is None:
            return
        records: set[str] = set()
        attempts: dict[str, set[str]] = {}
        for key in where.keys(inside):
            name, _, rest = key.removeprefix(f"{inside}/").partition("/")
            if "/" in rest:
                attempts.setdefault(name, set()).add(rest.partition("/")[0])
            else:
                records.add(name)
        for name, found in sorted(attempts.items()):
            if len(found) > (name in records):
                left = sorted(found - {_attempt(where, f"{inside}/{name}/{_RECORDS[inside]}")})
                self.notes += [Problem(f"{inside}/{name}/{attempt}", _UNFINISHED) for attempt in left]

    def _problem(self, path: str, reason: str) -> None:
        self.problems.append(Problem(path, reason))

    def _try(self, path: str, read: Any, count: bool = True) -> Any:
        """What `read()` gives, None with a problem at `path` when it cannot. Raises StorageError."""
        self.files += count
        try:
            return read()
        except StorageError:
            raise  # it says nothing of the index
        except CraterRayError as error:
            self._problem(path, error.message)
            return None


def _attempt(where: Bucket, key: str) -> str | None:
    """Which upload a record names; None where there is none that can be read."""
    data = where.get(key)
    try:
        return str(unsealed(data, key, "")["attempt"]) if data is not None else None
    except CraterRayError:
        return None


def info(root: Path) -> dict[str, Any]:
    """What an index holds, JSON-safe. Raises IndexMismatch, DamagedIndex."""
    snapshot = Snapshot(Path(root))
    recipe, version = snapshot.recipe, snapshot.version
    return {
        "root": said(root),
        "format": recipe.format,
        "side": recipe.side,
        "recipe": recipe.digest(),
        "version": version.number,
        "versions": numbers(snapshot.root),
        "images": len(snapshot),
        "skipped": version.skipped,
        "parts": len(version.parts),
        "missing": list(version.allow_missing),
        "segments": [
            {
                "sha": segment.sha,
                "factory": segment.factory,
                "rows": segment.rows,
                "fitted": segment.fitted,
                "quantizer": segment.quantizer,
                "tuning": segment.tuning,
            }
            for segment in snapshot.segments
        ],
        "backbone": asdict(recipe.backbone),
        "backbone_digest": recipe.backbone_digest,
        "shortlist": {**asdict(recipe.shortlist), "vectors": recipe.shortlist_m, "dim": recipe.shortlist_dim},
        "rerank": {
            **asdict(recipe.rerank),
            "tokens": recipe.k,
            "dim": recipe.dim,
            "codec": recipe.codec,
            "scoring": recipe.scoring,
        },
        "precision": recipe.precision,
        "batch": recipe.batch,
        "readers": [asdict(ref) for ref in version.readers],
        "columns": {
            field.name: str(field.type)
            for field in union_schema((part.entry.name, part.schema) for part in snapshot.parts)
        },
        "bytes_per_image": snapshot.bytes_per_image(),
        "fitted": [f"{FITTED}/{sha}.safetensors" for sha in recipe.fits.values()],
    }
