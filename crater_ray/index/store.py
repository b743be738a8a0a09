"""How files reach the disk: by write(), hashed on the way, fsynced, then renamed or linked into place.

Nothing is written through a memory map: a full disk under a map kills the process (SIGBUS).
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import xxhash

from crater_ray.errors import DamagedIndex, IndexMismatch, StorageFull
from crater_ray.index.bucket import ORIGIN, Bucket, bucket, folder

RECIPE, FITTED, PARTS, SEGMENTS, VERSIONS, TMP, LOCK = (
    "recipe.json",
    "fitted",
    "parts",
    "segments",
    "versions",
    "tmp",
    ".lock",
)
_BEFORE_RECIPE = {FITTED, TMP, LOCK, "lost+found"}  # what a folder may hold and still count as new
_FULL = {errno.ENOSPC, errno.EDQUOT}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_CHUNK = 4 << 20


@dataclass(frozen=True, slots=True)
class Sum:
    """Size in bytes and xxh3_128 hex of one file."""

    bytes: int
    xxh3_128: str

    def payload(self) -> dict[str, Any]:
        return {"bytes": self.bytes, "xxh3_128": self.xxh3_128}


def check_root(root: Path) -> None:
    """Raises IndexMismatch when `root` is a file or holds something else, DamagedIndex for a lost recipe."""
    where = bucket(root)
    if where is not None:
        _check_bucket(where)
        return
    if not root.exists():
        return
    if not root.is_dir():
        raise IndexMismatch(f"{root} is not an index: it is a file; name a folder in `out`")
    names = sorted(os.listdir(root))
    if RECIPE in names:
        return
    if {PARTS, VERSIONS} <= set(names):
        raise DamagedIndex(f"{root / RECIPE} is missing beside the parts it made; restore it from a copy")
    foreign = [name for name in names if name not in _BEFORE_RECIPE]
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise IndexMismatch(
            f"{root} is not an index: it holds {', '.join(foreign[:3])}{more}; "
            "name an index, or an empty or new folder, in `out`"
        )


def _check_bucket(where: Bucket) -> None:
    names = where.names()
    if RECIPE not in names and {PARTS, VERSIONS} <= set(names):
        raise DamagedIndex(
            f"{where.url}/{RECIPE} is missing beside the parts it made; restore it from a copy"
        )
    if names and not {RECIPE, ORIGIN} & set(names):
        raise IndexMismatch(where.foreign(names))


def listed(root: Path, inside: str) -> list[str]:
    """What stands in a folder of an index, wherever it lies; nothing in one that is not there."""
    where = bucket(root)
    if where is not None:
        return where.names(inside)
    path = root / inside
    return sorted(os.listdir(path)) if path.is_dir() else []


def storage_full(root: Path, path: Path) -> StorageFull:
    """The error to raise when `path` did not fit."""
    parts = root / PARTS
    done = f"{len(os.listdir(parts))} parts are done" if parts.is_dir() else "what is done is kept"
    return StorageFull(
        f"no room left while writing {path}; free space and run the same command again: {done}"
    )


@contextmanager
def room(root: Path, path: Path) -> Iterator[None]:
    """Turns a full disk or quota into StorageFull; every other OSError passes."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise storage_full(root, path) from error


class Stream:
    """A new file, hashed while it is written. `close()` fsyncs it and gives its Sum."""

    def __init__(self, root: Path, path: Path) -> None:
        self._root, self._path = root, path
        self._hash, self._size = xxhash.xxh3_128(), 0
        with room(root, path):
            self._file = open(path, "xb", buffering=0)  # noqa: SIM115 - closed by close() or __exit__

    def write(self, data: Any) -> int:
        """Writes all of a bytes-like object. Raises StorageFull."""
        view = memoryview(data).cast("B") if memoryview(data).nbytes else memoryview(b"")
        self._hash.update(view)
        with room(self._root, self._path):
            at = 0
            while at < len(view):
                at += self._file.write(view[at : at + _CHUNK])
        self._size += len(view)
        return len(view)

    def close(self) -> Sum:
        with room(self._root, self._path):
            os.fsync(self._file.fileno())
            self._file.close()
        return Sum(self._size, self._hash.hexdigest())

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # an error is on its way already, or close() was called
            self._file.close()


def sum_of(path: Path) -> Sum:
    """The Sum of a file as it stands on disk."""
    digest, size = xxhash.xxh3_128(), 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return Sum(size, digest.hexdigest())


def sync_file(path: Path) -> None:
    """Flushes a file that something else wrote."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Makes the names in a folder survive a power cut."""
    try:
        sync_file(path)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot fsync a folder, and need not
            raise


def make_folder(root: Path, path: Path) -> Path:
    """`path`, made with its parents and durable. Raises StorageFull."""
    if not path.is_dir():
        with room(root, path):
            path.mkdir(parents=True, exist_ok=True)
            sync_folder(path.parent)
    return path


def attempt(root: Path, name: str) -> Path:
    """A new folder of our own under tmp/. Raises StorageFull."""
    own = make_folder(root, folder(root) / TMP) / f"{name}.{uuid.uuid4().hex}"
    with room(root, own):
        own.mkdir()
    return own


def move_folder(root: Path, source: Path, target: Path) -> bool:
    """True when the whole `source` now stands at `target`, False when another did. Raises StorageFull."""
    make_folder(root, target.parent)
    with room(root, target):
        sync_folder(source)
        try:
            os.rename(source, target)
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                return False
            raise
        sync_folder(target.parent)
    return True


def remove_folder(own: Path) -> None:
    """Removes a folder of our own; what cannot be removed stays under tmp/, where it harms nobody."""
    shutil.rmtree(own, ignore_errors=True)


def write_whole(root: Path, path: Path, data: bytes) -> None:
    """`path` holds `data`, all of it or as it was before. Raises StorageFull."""
    where = bucket(root)
    if where is not None:
        where.put(_key(where, path), data)
    put_here(root, path, data)


def put_here(root: Path, path: Path, data: bytes) -> None:
    """As write_whole, of the copy on this machine alone."""
    own = _written(root, path, data)
    with room(root, path):
        os.replace(own, path)
        sync_folder(path.parent)


def write_new(root: Path, path: Path, data: bytes) -> bool:
    """True when `path` now holds `data`, False when it existed: one writer wins. Raises StorageFull."""
    where = bucket(root)
    if where is not None:
        won = where.create(_key(where, path), data)
        if won:
            put_here(root, path, data)
        return won
    own = _written(root, path, data)
    try:
        with room(root, path):
            try:
                os.link(own, path)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                return _write_exclusive(root, path, data)
            sync_folder(path.parent)
        return True
    finally:
        own.unlink(missing_ok=True)


def _key(where: Bucket, path: Path) -> str:
    return path.relative_to(where.folder()).as_posix()


def _written(root: Path, path: Path, data: bytes) -> Path:
    make_folder(root, path.parent)
    own = make_folder(root, folder(root) / TMP) / f"{path.name}.{uuid.uuid4().hex}"
    try:
        with Stream(root, own) as stream:
            stream.write(data)
            stream.close()
    except BaseException:
        own.unlink(missing_ok=True)
        raise
    return own


def _write_exclusive(root: Path, path: Path, data: bytes) -> bool:
    """For file systems without hard links: O_EXCL elects the writer; a torn file is found by its seal."""
    try:
        with Stream(root, path) as stream:
            stream.write(data)
            stream.close()
    except FileExistsError:
        return False
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return True
