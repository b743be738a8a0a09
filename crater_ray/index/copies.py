"""An index on object storage and the copies of its files here, in the folder it would be on a disk.

What is made is made in that folder and sent; what is read is copied into it first, and checked on the way.
Files never change under their name, so that a copy stays good, and any number of processes share it.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from crater_ray.errors import DamagedIndex
from crater_ray.index.bucket import Bucket, bucket, folder
from crater_ray.index.sealed import unsealed
from crater_ray.index.store import TMP, Stream, Sum, make_folder, put_here, room, sum_of

_AT_ONCE = 8  # files that are copied
_FEW_BYTES = 32  # records that are: nothing but waiting for answers
_TURN = ".copying"  # held by the process that copies


@dataclass(frozen=True, slots=True)
class Copy:
    """A file of an index, the key under which object storage has it, and what it holds."""

    path: Path
    key: str
    told: Sum

    @property
    def there(self) -> bool:
        try:
            return os.stat(self.path).st_size == self.told.bytes
        except FileNotFoundError:
            return False


def fetch(root: Path, path: Path, check: Callable[[bytes, str], object] | None = None) -> bool:
    """Whether a small file of an index is there; copied from object storage where it is there alone.

    `check(data, where)` raises for what must not be copied; a sealed file is checked by its seal.
    """
    where = bucket(root)
    if where is None or path.exists():
        return os.path.lexists(path)
    return refresh(root, path, check)


def refresh(root: Path, path: Path, check: Callable[[bytes, str], object] | None = None) -> bool:
    """As `fetch`, of a file that may change: the copy is as object storage has it now."""
    where = bucket(root)
    if where is None:
        return os.path.lexists(path)
    key = path.relative_to(where.folder()).as_posix()
    data = where.get(key)
    if data is None:
        return False
    if check is not None:
        check(data, f"{where.url}/{key}")
    else:
        unsealed(data, f"{where.url}/{key}", where.mend(key))
    if not (path.exists() and path.read_bytes() == data):
        put_here(root, path, data)
    return True


def fetch_all(root: Path, paths: Sequence[Path]) -> None:
    """Fetches many at once; one that is nowhere is left to whoever needs it."""
    if bucket(root) is not None:
        absent = [path for path in paths if not path.exists()]
        with ThreadPoolExecutor(_FEW_BYTES) as threads:
            list(threads.map(lambda path: fetch(root, path), absent))


def bring(root: Path, copies: Iterable[Copy]) -> None:
    """Copies what is not here yet, each file whole and checked, or not at all.

    Raises DamagedIndex naming the object that is gone or not what was written, StorageError, StorageFull.
    """
    where = bucket(root)
    absent = [] if where is None else [copy for copy in copies if not copy.there]
    if where is None or not absent:
        return
    with _turn(root), ThreadPoolExecutor(_AT_ONCE) as threads:
        list(threads.map(lambda copy: _bring(root, where, copy), absent))


def mend(root: Path, copies: Iterable[Copy]) -> None:
    """Reads every copy, and brings those again that are not what was written."""
    every = list(copies)
    for copy in every:
        if copy.there and sum_of(copy.path) != copy.told:
            copy.path.unlink()
    bring(root, every)


def send(root: Path, source: Path, target: Path, record: str, attempt: str) -> bool:
    """True when the files of `source` are on object storage as `target`, False when another's were first.

    Every file has a key that is this attempt's alone; `record`, the file that names the attempt, is put last
    and only if there is none. What loses is removed again.
    """
    where = bucket(root)
    if where is None:
        raise ValueError(f"{root} is a folder: nothing is sent")
    base = target.relative_to(where.folder()).as_posix()
    files = sorted(path for path in source.iterdir() if path.name != record)
    keys = [f"{base}/{attempt}/{path.name}" for path in files]
    for key, path in zip(keys, files, strict=True):
        where.upload(key, path)
    if where.create(f"{base}/{record}", (source / record).read_bytes()):
        return True
    where.remove(keys)
    return False


def _bring(root: Path, where: Bucket, copy: Copy) -> None:
    if copy.there:
        return  # another process was faster
    make_folder(root, copy.path.parent)
    own = make_folder(root, folder(root) / TMP) / f"{copy.path.name}.{uuid.uuid4().hex}"
    try:
        with Stream(root, own) as stream:
            for piece in where.pieces(copy.key, copy.told.bytes):
                stream.write(piece)
            found = stream.close()
        if found != copy.told:
            state = (
                "does not match its checksum"
                if found.bytes == copy.told.bytes
                else f"has {found.bytes} bytes, not {copy.told.bytes}"
            )
            raise DamagedIndex(f"{where.url}/{copy.key} {state}; {where.mend(copy.key)}")
        with room(root, copy.path):
            os.replace(own, copy.path)
    finally:
        own.unlink(missing_ok=True)


@contextmanager
def _turn(root: Path) -> Iterator[None]:
    """One process of a machine copies at a time: the next one finds what it would have copied."""
    path = make_folder(root, folder(root)) / _TURN
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with suppress(OSError):  # a file system without locks: some things are copied twice
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
