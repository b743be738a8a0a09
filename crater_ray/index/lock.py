"""One driver writes an index at a time."""

from __future__ import annotations

import errno
import json
import os
import socket
import warnings
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

from crater_ray.errors import IndexMismatch
from crater_ray.files import lock, writing
from crater_ray.index.store import LOCK, Store

_CANNOT = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class DriverLock:
    """Holds root/.lock while it is entered; the kernel frees it when the process dies, however it dies.

    On object storage it holds this machine's copies, and a lease that holds off gc on any other: drivers of
    other machines are told apart by what they commit. Raises IndexMismatch when `root` is no place for an
    index, another driver holds it, or gc works on it elsewhere; StorageFull.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._handle = -1
        self._elsewhere: AbstractContextManager[None] = nullcontext()

    def __enter__(self) -> DriverLock:
        self._lock()
        elsewhere = self._store.writing()
        try:
            elsewhere.__enter__()
        except BaseException:
            self._unlock()
            raise
        self._elsewhere = elsewhere
        return self

    def _lock(self) -> None:
        try:
            self._store.begin()
            path = self._store.local / LOCK
            with writing(path):
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except (PermissionError, NotADirectoryError, FileExistsError) as error:
            raise IndexMismatch(
                f"{self._store.url} cannot be written ({error.strerror}); name another `out`"
            ) from None
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            raise IndexMismatch(
                f"{self._store.url} is on a read-only file system; name another `out`"
            ) from None
        try:
            held = lock(handle)
        except OSError as error:
            os.close(handle)
            if error.errno not in _CANNOT:
                raise
            # Parts and versions are safe without it: rename and link elect one writer. Work is done twice.
            warnings.warn(
                f"{self._store.url} is on a file system without locks ({error.strerror}); "
                "start one driver at a time there",
                stacklevel=3,
            )
            return
        if not held:
            holder = os.pread(handle, 4096, 0)
            os.close(handle)
            raise IndexMismatch(
                f"another driver ({_named(holder)}) writes {self._store.url}; wait for it or name "
                "another `out`"
            )
        self._handle = handle
        text = json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode() + b"\n"
        with writing(path):
            os.ftruncate(handle, 0)
            os.pwrite(handle, text, 0)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._elsewhere.__exit__(None, None, None)
        finally:
            self._unlock()

    def _unlock(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)  # and with it the lock; the file stays, so that nobody locks a deleted one
            self._handle = -1


def _named(holder: bytes) -> str:
    try:
        told = json.loads(holder)
        return f"pid {told['pid']}, host {told['host']}"
    except (ValueError, KeyError, TypeError):
        return "it has not said which"
