"""An index on object storage, with a cache of its files here, in the folder it would be on a disk.

What is made is made in that folder and uploaded; what is read is downloaded into it first, and checked on the
way. Files never change under their name, so a copy stays good, and any number of processes share the cache.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import xxhash

from crater_ray.errors import ConfigError, CraterRayError, DamagedIndex, IndexMismatch
from crater_ray.files import (
    Stream,
    make_folder,
    move_folder,
    new_folder,
    remove_folder,
    sum_of,
    write_new,
    write_whole,
    writing,
)
from crater_ray.index.cache_size import cache_size, make_room
from crater_ray.index.checksummed_json import checksummed, parse_checksummed
from crater_ray.index.object_leases import ObjectLeases
from crater_ray.index.s3 import Bucket
from crater_ray.index.store import (
    ORIGIN,
    PART,
    PARTS,
    SEGMENT,
    SEGMENTS,
    TMP,
    VERSIONS,
    Check,
    Copy,
    Store,
    check_place,
    foreign,
    set_aside,
)

CACHE = "CRATER_RAY_CACHE"
_INDEXES = "indexes"  # in that folder
_AT_ONCE = 8  # files that are downloaded
_FEW_BYTES = 32  # records that are: nothing but waiting for answers
_COLLECTED = "collected"  # in origin.json: an id that is another after each gc that removed something
_MARK = ".collected"  # the one that was seen last
_DOWNLOADING = ".downloading"  # held by the process that downloads


def cache_folder() -> Path:
    """Where copies of what lies on object storage are kept: $CRATER_RAY_CACHE, or below ~/.cache."""
    told = os.environ.get(CACHE)
    if told:
        return Path(told).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "crater-ray"


class ObjectStore:
    """An index below an s3:// address; `cache` is where copies of it are kept. See Store."""

    def __init__(self, url: str, cache: Path | None = None, uuid: str = "") -> None:
        self.url, self.bucket = url, Bucket(url)
        self._cache, self._uuid = cache, uuid
        self._since = 0.0  # a record copied before that may have been collected since
        self._marked = False

    grace = timedelta(days=1)  # a reader may lack the right to write a lease

    def __reduce__(self) -> tuple[type[ObjectStore], tuple[str]]:
        return ObjectStore, (self.url,)

    def inside(self, name: str) -> Store:
        return ObjectStore(f"{self.url}/{name}")

    def as_folder(self, why: str) -> Path:
        raise ConfigError(f"{self.url}: {why}")

    def uuid(self) -> str | None:
        """The id under which the index was begun, None before."""
        if not self._uuid:
            data = self.bucket.get(ORIGIN)
            if data is None:
                return None
            self._uuid = str(self._parsed_origin(data)["uuid"])
            self._look_at_copies(self._parsed_origin(data).get(_COLLECTED))
        return self._uuid

    def _parsed_origin(self, data: bytes) -> dict[str, Any]:
        return parse_checksummed(data, f"{self.url}/{ORIGIN}", "when the index was begun")

    @property
    def local(self) -> Path:
        """A folder that is never made while nothing has been begun.

        An index made anew has another uuid, and so never meets the copies of the one before.
        """
        if self._cache is not None:
            return self._cache
        name = re.sub(r"[^\w.-]+", "-", self.url.removeprefix("s3://").rpartition("/")[2])
        own = self.uuid()
        digest = xxhash.xxh3_64_hexdigest(f"{self.url} {own}".encode())
        every = cache_folder() / _INDEXES
        if own is None:
            return every / f"{name}-{digest}.none"
        try:
            every.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{every} cannot be written ({error.strerror}); set {CACHE} to a folder for copies"
            ) from None
        self._cache = every / f"{name}-{digest}"
        return self._cache

    def _look_at_copies(self, collected: str | None) -> None:
        """After something was collected, here or elsewhere, each copied record is asked for once more."""
        if collected is None:
            return
        mark = self.local / _MARK
        if not (mark.exists() and mark.read_text() == collected):
            write_whole(mark, collected.encode())
        self._since = mark.stat().st_mtime

    def _current(self, path: Path) -> bool:
        try:
            return path.stat().st_mtime >= self._since
        except FileNotFoundError:
            return False

    def _forget(self, key: str) -> None:
        """Removes a copy; of a record, all the files it tells of: another attempt's may come there."""
        path = self.local / key
        if path.name not in (PART, SEGMENT):
            path.unlink(missing_ok=True)
        elif path.parent.is_dir():
            aside = new_folder(self.local / TMP, path.parent.name)
            with suppress(FileNotFoundError):  # another process was faster
                os.rename(path.parent, aside)
            remove_folder(aside)

    @cached_property
    def _leases(self) -> ObjectLeases:
        return ObjectLeases(self.bucket, _machine(), self.local)

    def begin(self) -> None:
        """Raises ConfigError too where it does no conditional puts: drivers would overwrite one another."""
        check_place(self)
        if self.uuid() is None:
            if there := self.names():
                raise foreign(self, there)
            if self.bucket.create(ORIGIN, _origin()) and self.bucket.create(ORIGIN, _origin()):
                self.bucket.remove([ORIGIN])
                raise ConfigError(
                    f"{self.url}: this storage overwrites an object that is to be made only where there is "
                    "none (If-None-Match), so that no index is safe there; use another"
                )
        make_folder(self.local)

    def names(self, folder: str = "") -> list[str]:
        return self.bucket.names(folder)

    def sizes(self, folder: str) -> dict[str, int]:
        found: Counter[str] = Counter()
        for one in self.bucket.objects(folder):
            found[one.key.removeprefix(f"{folder}/").partition("/")[0]] += one.bytes
        return dict(found)

    def age(self, key: str) -> timedelta:
        written = self.bucket.written(key)
        every = [one.written for one in self.bucket.objects(key)] if written is None else [written]
        return self._leases.age(max(every))

    def unfinished(self) -> list[str]:
        return [left for inside in (PARTS, SEGMENTS) for left in self._unfinished(inside)]

    def _unfinished(self, inside: str) -> Iterator[str]:
        records: dict[str, str] = {}  # a folder -> the key of its record
        attempts: dict[str, set[str]] = {}
        for key in self.bucket.keys(inside):
            name, _, rest = key.removeprefix(f"{inside}/").partition("/")
            if "/" in rest:
                attempts.setdefault(name, set()).add(rest.partition("/")[0])
            else:
                records[name] = key
        for name, found in sorted(attempts.items()):
            if len(found) > (name in records):
                committed = {_attempt(self.bucket, records[name])} if name in records else set()
                yield from (f"{inside}/{name}/{attempt}" for attempt in sorted(found - committed))

    def fetch(self, key: str, check: Check | None = None, *, fresh: bool = False) -> bool:
        path = self.local / key
        if not fresh and self._current(path):
            return True
        data = self.bucket.get(key)
        if data is None:
            self._forget(key)
            return False
        if check is not None:
            check(data, f"{self.url}/{key}")
        else:
            parse_checksummed(data, f"{self.url}/{key}", self.bucket.repair_hint(key))
        if path.exists() and path.read_bytes() == data:
            os.utime(path)
            return True
        if path.exists() and path.name in (PART, SEGMENT):
            self._forget(key)
        write_whole(path, data, self.local / TMP)
        return True

    def fetch_all(self, keys: Sequence[str]) -> None:
        local = self.local
        with ThreadPoolExecutor(_FEW_BYTES) as threads:
            list(threads.map(self.fetch, [key for key in keys if not self._current(local / key)]))

    def download(self, copies: Iterable[Copy], *, repair: bool = False) -> None:
        every = list(copies)
        for copy in every if repair else ():
            if copy.there and sum_of(copy.path) != copy.told:
                copy.path.unlink()
        absent = [copy for copy in every if not copy.there]
        if (size := cache_size()) is not None:
            for copy in every:
                with suppress(FileNotFoundError):
                    os.utime(copy.path)  # used now
            if absent:
                make_room(cache_folder() / _INDEXES, sum(copy.told.bytes for copy in absent), size)
        if absent:
            with self._downloading(), ThreadPoolExecutor(_AT_ONCE) as threads:
                list(threads.map(self._download, absent))

    def read(self, copy: Copy, first: int, stop: int) -> bytes | memoryview:
        data = self.bucket.part(copy.key, first, stop)
        if len(data) != stop - first:
            raise DamagedIndex(
                f"{self.url}/{copy.key} ends before byte {stop}; {self.bucket.repair_hint(copy.key)}"
            )
        return data

    def _download(self, copy: Copy) -> None:
        if copy.there:
            return  # another process was faster
        make_folder(copy.path.parent)
        own = make_folder(self.local / TMP) / f"{copy.path.name}.{uuid.uuid4().hex}"
        try:
            with Stream(own) as stream:
                for piece in self.bucket.pieces(copy.key, copy.told.bytes):
                    stream.write(piece)
                found = stream.close()
            if found != copy.told:
                state = (
                    "does not match its checksum"
                    if found.bytes == copy.told.bytes
                    else f"has {found.bytes} bytes, not {copy.told.bytes}"
                )
                hint = self.bucket.repair_hint(copy.key)
                raise DamagedIndex(f"{self.url}/{copy.key} {state}; {hint}")
            with writing(copy.path):
                os.replace(own, copy.path)
        finally:
            own.unlink(missing_ok=True)

    @contextmanager
    def _downloading(self) -> Iterator[None]:
        """One process of a machine downloads at a time: the next one finds what it would have downloaded."""
        path = make_folder(self.local) / _DOWNLOADING
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            with suppress(OSError):  # a file system without locks: some things are downloaded twice
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @contextmanager
    def no_cache(self) -> Iterator[Store]:
        (cache_folder() / "tmp").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_folder() / "tmp") as own:
            yield ObjectStore(self.url, Path(own), self._uuid)

    def put(self, key: str, data: bytes) -> None:
        self.bucket.put(key, data)
        write_whole(self.local / key, data, self.local / TMP)

    def create(self, key: str, data: bytes) -> bool:
        won = self.bucket.create(key, data)
        if won:
            write_whole(self.local / key, data, self.local / TMP)
        return won

    def rename(self, key: str, new: str) -> None:
        data = self.bucket.get(key)
        if data is None:
            raise DamagedIndex(f"{self.url}/{key} is missing; {self.bucket.repair_hint(key)}")
        self.put(new, data)
        self.remove(key)

    def remove(self, key: str) -> None:
        self.bucket.remove([key])
        (self.local / key).unlink(missing_ok=True)

    def remove_all(self, key: str, record: str = "") -> None:
        self._mark()
        if record:
            self.bucket.remove([f"{key}/{record}"])
        self.bucket.remove([key, *self.bucket.keys(key)])
        path = self.local / key
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def end_removals(self) -> None:
        self.bucket.remove(self._leases.expired())

    def _mark(self) -> None:
        """Tells every machine, before anything is removed, that its copied records may be of what was."""
        if not self._marked and (data := self.bucket.get(ORIGIN)) is not None:
            payload = {**self._parsed_origin(data), _COLLECTED: uuid.uuid4().hex}
            self.bucket.put(ORIGIN, checksummed(payload))
            self._look_at_copies(str(payload[_COLLECTED]))
            self._marked = True

    def reading(self, number: int) -> Callable[[], None] | None:
        return self._leases.reading(
            number, lambda: self.bucket.written(f"{VERSIONS}/{number}.json") is not None
        )

    def readers(self) -> set[int]:
        return self._leases.of_others()

    @contextmanager
    def writing(self) -> Iterator[None]:
        with self._leases.writing():
            if (data := self.bucket.get(ORIGIN)) is not None:  # gc may have ended a moment ago
                self._look_at_copies(self._parsed_origin(data).get(_COLLECTED))
            yield

    @contextmanager
    def collecting(self) -> Iterator[None]:
        with self._leases.collecting():
            self._marked = False
            yield

    def commit_id(self) -> str:
        return uuid.uuid4().hex

    def publish(
        self, own: Path, folder: str, record: str, commit_id: str, standing: Callable[[], bool]
    ) -> bool:
        """Every file has a key that is this attempt's alone; the record is put last, if there is none.

        What loses is removed again.
        """
        files = sorted(path for path in own.iterdir() if path.name != record)
        keys = [f"{folder}/{commit_id}/{path.name}" for path in files]
        for key, path in zip(keys, files, strict=True):
            self.bucket.upload(key, path)
        key = f"{folder}/{record}"
        if self.bucket.create(key, (own / record).read_bytes()):
            while not move_folder(own, self.local / folder):  # copies of what was there before
                set_aside(self.local / folder, self.local / TMP)
            return True
        self.bucket.remove(keys)
        if not standing():
            raise DamagedIndex(f"{self.url}/{key} cannot be read; {self.bucket.repair_hint(key)}")
        return False


def _machine() -> str:
    """An id of this machine, or of those that share its copies."""
    path = cache_folder() / "machine"
    write_new(path, uuid.uuid4().hex.encode())
    return path.read_text()


def _origin() -> bytes:
    return checksummed({"format": 1, "what": "crater-ray index", "uuid": uuid.uuid4().hex})


def _attempt(bucket: Bucket, key: str) -> str | None:
    """Which upload a record names; None where it cannot be read."""
    data = bucket.get(key)
    try:
        return str(parse_checksummed(data, key, "")["attempt"]) if data is not None else None
    except (CraterRayError, IndexMismatch):
        return None
