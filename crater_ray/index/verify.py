"""Whether an index is what was written: every checksum of every file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from crater_ray.errors import CraterRayError, StorageError
from crater_ray.files import sum_of
from crater_ray.index.config import IndexConfig, read_config
from crater_ray.index.fitted import fitted_path, read_fitted
from crater_ray.index.gc import COLLECTED, collected
from crater_ray.index.parts import (
    CODES,
    ITEMS,
    SCALES,
    VECTORS,
    PartEntry,
    Record,
    copies,
    open_part,
    part_folder,
    read_record,
)
from crater_ray.index.segments import Segment, check_segment
from crater_ray.index.segments import read_record as read_segment
from crater_ray.index.store import CONFIG, FITTED, GONE, PART, PARTS, SEGMENT, SEGMENTS, TMP, VERSIONS, Store
from crater_ray.index.versions import Version, check_ids, numbers, read, union_schema, version_path

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


def verify(store: Store) -> Verification:
    """Every checksum of the current version, the JSON of all versions, ids, row counts, leftovers.

    Of an index on object storage every object is read again, whatever was copied before; a copy of one part
    at a time is on the disk meanwhile. Raises IndexMismatch when `root` is not an index at all.
    """
    with store.no_cache() as fresh:
        return _Check(fresh).run()


class _Check:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.problems: list[Problem] = []
        self.notes: list[Problem] = []
        self.files = self.bytes = 0
        self.known = False  # whether every version could be read, and so what nothing refers to

    def run(self) -> Verification:
        config = self._config()
        versions = self._versions()
        if versions:
            newest = versions[-1]
            self._parts(newest, config)
            fitted = {learnt for sha in newest.segments for learnt in self._segment(sha, newest)}
            for learnt in sorted(fitted):
                self._fitted(learnt)
        self._leftovers(versions)
        return Verification(tuple(self.problems), tuple(self.notes), self.files, self.bytes)

    def _config(self) -> IndexConfig | None:
        if not {CONFIG, VERSIONS} & set(self.store.names("")):
            return read_config(self.store)  # raises: this is no index
        config: IndexConfig | None = self._try(CONFIG, lambda: read_config(self.store))
        for sha in config.fits.values() if config else ():
            self._fitted(sha)
        return config

    def _versions(self) -> list[Version]:
        known = numbers(self.store)
        if not known:
            self.notes.append(Problem(VERSIONS, "no version yet: the first job has not finished"))
        found: list[Version] = []
        gone = self._try(f"{VERSIONS}/{COLLECTED}", lambda: collected(self.store), count=False)
        for number in known:
            name = f"{VERSIONS}/{version_path(self.store, number).name}"
            version = self._try(name, lambda number=number: read(self.store, number))
            if version is not None:
                found.append(version)
                if version.parent and gone is not None and version.parent not in gone.union(known):
                    self._problem(name, f"its parent, version {version.parent}, is missing")
        self.known = len(known) == len(found)
        return found

    def _parts(self, version: Version, config: IndexConfig | None) -> None:
        ids: list[tuple[str, pa.ChunkedArray]] = []
        schemas: list[tuple[str, pa.Schema]] = []
        for entry in version.parts:
            with self.store.no_cache() as fresh:  # the copies of one part at a time are on the disk
                part = self._part(fresh, entry, config)
            if part is not None:
                ids.append((entry.name, part[0]))
                schemas.append((entry.name, part[1]))
        whole = f"{VERSIONS}/{version_path(self.store, version.number).name}"
        self._try(whole, lambda: check_ids(ids), count=False)
        self._try(whole, lambda: union_schema(schemas), count=False)

    def _part(
        self, store: Store, entry: PartEntry, config: IndexConfig | None
    ) -> tuple[pa.ChunkedArray, pa.Schema] | None:
        """The ids and columns of a part, None where a file of it is not as it was written."""
        place, name = part_folder(store, entry.name, entry.digest), f"{PARTS}/{entry.folder}"
        bad = len(self.problems)
        there = self._try(f"{name}/{PART}", lambda: store.fetch(f"{name}/{PART}"), count=False)
        if not there and not place.is_dir():
            if len(self.problems) == bad:
                self._problem(name, "the part is missing; run `crater-ray index` again to make it")
            return None
        record = self._try(f"{name}/{PART}", lambda: read_record(place))
        for copy in copies(place, record) if record else ():
            self._try(copy.key, lambda copy=copy: store.download([copy]), count=False)
        if record is None or len(self.problems) != bad or not self._files(place, name, record):
            return None
        return self._rows(store, name, entry, record, config)

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
        self, store: Store, name: str, entry: PartEntry, record: Record, config: IndexConfig | None
    ) -> tuple[pa.ChunkedArray, pa.Schema] | None:
        """The part's ids and columns; said is where its files differ in their rows, or in shape."""
        try:
            part = open_part(store, entry)
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
        if config and shape != (
            (config.shortlist_m, config.shortlist_dim),
            config.record_bytes,
            config.scales,
        ):
            self._problem(f"{name}/{PART}", "its shapes are not the index config's")
        return column, part.schema

    def _segment(self, sha: str, version: Version) -> tuple[str, ...]:
        """The shas of what it learnt; segments share that."""
        name = f"{SEGMENTS}/{sha}"
        segment: Segment | None = self._try(f"{name}/{SEGMENT}", lambda: read_segment(self.store, sha))
        if segment is None:
            return ()
        if segment.file is not None:
            file = str(segment.file.relative_to(self.store.local))

            def read_all() -> None:
                self.store.download(segment.copies())
                check_segment(segment)

            self._try(file, read_all)
            self.bytes += segment.sum.bytes if segment.sum else 0
        there = {(part.name, part.digest) for part in version.parts}
        gone = [part for part, digest, _ in segment.parts if (part, digest) not in there]
        if gone:
            self.notes.append(Problem(name, f"{len(gone)} of its parts are not current: masked"))
        return segment.learnt

    def _fitted(self, sha: str) -> None:
        path = fitted_path(self.store, sha)
        self._try(f"{FITTED}/{path.name}", lambda: read_fitted(self.store, sha))

    def _leftovers(self, versions: list[Version]) -> None:
        parts = {part.folder for version in versions for part in version.parts}
        segments = {sha for version in versions for sha in version.segments}
        for inside, used in ((PARTS, parts), (SEGMENTS, segments)):
            for name in self.store.names(inside) if self.known else ():
                if name not in used:
                    self.notes.append(Problem(f"{inside}/{name}", "no version refers to it"))
        for name in self.store.names(VERSIONS):
            if name.endswith(GONE):
                self.notes.append(Problem(f"{VERSIONS}/{name}", "half removed; `crater-ray gc` ends it"))
        tmp = [f"{TMP}/{name}" for name in self.store.names(TMP)]
        self.notes += [Problem(path, _UNFINISHED) for path in [*self.store.unfinished(), *tmp]]

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
