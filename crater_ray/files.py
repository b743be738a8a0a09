"""Files that are there whole or not at all: written by write(), fsynced, then renamed or linked into place.

Nothing is written through a memory map: a full disk under a map kills the process (SIGBUS).
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import xxhash

from crater_ray.errors import StorageFull, UserError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_BUSY = {errno.EAGAIN, errno.EACCES}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_CHUNK = 4 << 20


@dataclass(frozen=True, slots=True)
class Sum:
    """Size in bytes and xxh3_128 hex of one file."""

    bytes: int
    xxh3_128: str

    def payload(self) -> dict[str, Any]:
        return {"bytes": self.bytes, "xxh3_128": self.xxh3_128}


def storage_full(path: Path) -> StorageFull:
    """The error to raise when `path` did not fit."""
    return StorageFull(
        f"no room left while writing {path}; free space and run the same command again: what is done is kept"
    )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a full disk or quota into StorageFull; every other OSError passes."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise storage_full(path) from error


class Stream:
    """A new file, hashed while it is written. `close()` fsyncs it and gives its Sum."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hash, self._size = xxhash.xxh3_128(), 0
        with writing(path):
            self._file = open(path, "xb", buffering=0)  # noqa: SIM115 - closed by close() or __exit__

    def write(self, data: Any) -> int:
        """Writes all of a bytes-like object. Raises StorageFull."""
        view = memoryview(data).cast("B") if memoryview(data).nbytes else memoryview(b"")
        self._hash.update(view)
        with writing(self._path):
            at = 0
            while at < len(view):
                at += self._file.write(view[at : at + _CHUNK])
        self._size += len(view)
        return len(view)

    def close(self) -> Sum:
        with writing(self._path):
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


def write_stream(path: Path, data: Any) -> Sum:
    """The Sum of a new file that holds `data`. Raises StorageFull."""
    with Stream(path) as stream:
        stream.write(data)
        return stream.close()


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


def make_folder(path: Path) -> Path:
    """`path`, made with its parents and durable. Raises StorageFull."""
    if not path.is_dir():
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            sync_folder(path.parent)
    return path


def new_folder(tmp: Path, name: str) -> Path:
    """A new folder of our own in `tmp`. Raises StorageFull."""
    own = make_folder(tmp) / f"{name}.{uuid.uuid4().hex}"
    with writing(own):
        own.mkdir()
    return own


def move_folder(source: Path, target: Path) -> bool:
    """True when the whole `source` now stands at `target`, False when another did. Raises StorageFull."""
    make_folder(target.parent)
    with writing(target):
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
    """Removes a folder of our own; what cannot be removed stays where it is."""
    shutil.rmtree(own, ignore_errors=True)


def refuse_out(path: Path, *, parents: bool = False) -> None:
    """Raises UserError where a user's file cannot be written: said before the work, not after it.

    With `parents` its folder is made where there is none.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        url = re.sub(":/+", "://", str(path), count=1)
        raise UserError(f"{url}: files are written on this machine, not to an address; name a file")
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file")
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except (FileNotFoundError, FileExistsError, NotADirectoryError):
        raise UserError(f"cannot write {path}: name a file in a folder that is there") from None
    except OSError as error:
        if error.errno in _FULL:
            raise storage_full(path) from error
        raise UserError(f"cannot write {path}: {error.strerror}; name a file in another folder") from None


@contextmanager
def whole_file(path: Path, tmp: Path | None = None) -> Iterator[Path]:
    """Gives a path to write to; `path` then is that file, or is as it was if the body raises.

    The new file lies beside `path`, or in `tmp` on the same disk. Raises StorageFull.
    """
    make_folder(path.parent)
    own = _own(path, tmp)
    try:
        with writing(path):
            yield own
            sync_file(own)
            os.replace(own, path)
            sync_folder(path.parent)
    finally:
        own.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Gives a new folder beside `path` to write into; then it is `path`, or is gone if the body raises.

    Its files are flushed first. Raises FileExistsError where something stands there, StorageFull.
    """
    own = new_folder(path.parent, f".{path.name}")
    try:
        with writing(path):
            yield own
            for inside in sorted(own.rglob("*"), reverse=True):
                sync_folder(inside) if inside.is_dir() else sync_file(inside)
        if not move_folder(own, path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    finally:
        remove_folder(own)


def write_whole(path: Path, data: bytes, tmp: Path | None = None) -> None:
    """`path` holds `data`, all of it or as it was before. Raises StorageFull."""
    with whole_file(path, tmp) as own:
        write_stream(own, data)


def write_new(path: Path, data: bytes, tmp: Path | None = None) -> bool:
    """True when `path` now holds `data`, False when it existed: one writer wins. Raises StorageFull."""
    make_folder(path.parent)
    own = _own(path, tmp)
    try:
        write_stream(own, data)
        with writing(path):
            try:
                os.link(own, path)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                return _write_exclusive(path, data)
            sync_folder(path.parent)
        return True
    finally:
        own.unlink(missing_ok=True)


def lock_file(path: Path) -> int | None:
    """A handle that holds `path` locked until it is closed or the process dies; None where another has it.

    Raises OSError as it comes, also where the file system has no locks.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    held = False
    try:
        held = lock(handle)
        return handle if held else None
    finally:
        if not held:
            os.close(handle)


def lock(handle: int) -> bool:
    """Whether an open file is now locked by this handle alone; False where another has it.

    Raises OSError where the file system has no locks.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True


def unlock(handle: int) -> None:
    """Gives a lock back; the file stays open."""
    fcntl.flock(handle, fcntl.LOCK_UN)


def _own(path: Path, tmp: Path | None) -> Path:
    unique = uuid.uuid4().hex
    if tmp is None:
        return path.with_name(f".{path.stem}.{unique}{path.suffix}")
    return make_folder(tmp) / f"{path.stem}.{unique}{path.suffix}"


def _write_exclusive(path: Path, data: bytes) -> bool:
    """For file systems without hard links: O_EXCL elects the writer; a torn file is found by its checksum."""
    try:
        write_stream(path, data)
    except FileExistsError:
        return False
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return True
