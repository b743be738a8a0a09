"""Who reads a version: a lock on its file, which the kernel frees when the reader dies, however it dies.

Readers share the lock; whoever collects old versions needs it alone. On object storage it is a lock on this
machine's copy, and other machines are told by a lease (object_leases.py).
"""

from __future__ import annotations

import fcntl
import os
import weakref
from contextlib import suppress
from pathlib import Path

from crater_ray.errors import IndexMismatch
from crater_ray.files import lock
from crater_ray.index.store import Store
from crater_ray.index.versions import version_path


class VersionGone(IndexMismatch):
    """A version that was there a moment ago and has been collected."""


class Pin:
    """Keeps a version from being collected while this object lives. Raises VersionGone."""

    def __init__(self, store: Store, number: int) -> None:
        path = version_path(store, number)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise VersionGone(f"{store.url} has no version {number} any more: it was collected") from None
        self.release = weakref.finalize(self, os.close, handle)
        with suppress(OSError):  # a file system without locks: nothing is collected there unasked
            fcntl.flock(handle, fcntl.LOCK_SH)  # a claim lasts for a moment
        told = store.reading(number) if _same(handle, path) else None
        if told is None:
            raise VersionGone(f"{store.url} has no version {number} any more: it was collected")
        weakref.finalize(self, told)


class Claim:
    """A version that nobody else reads, and nobody can begin to. Use it as a context manager.

    `free` is False where a reader holds it, `known` where the file system can tell.
    """

    def __init__(self, store: Store, number: int) -> None:
        self._handle = os.open(version_path(store, number), os.O_RDWR | os.O_CLOEXEC)
        self.free, self.known = False, True
        try:
            self.free = lock(self._handle)
        except OSError:
            self.known = False

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)


def _same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
