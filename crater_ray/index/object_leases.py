"""Who reads or writes an index on object storage: an object a machine, put again while it is needed.

No lock reaches across machines, so a lease is believed for a while after its last put. Ages are by the
storage's own clock.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from crater_ray.errors import CraterRayError, IndexMismatch
from crater_ray.files import make_folder
from crater_ray.index.s3 import Bucket

LEASES = "leases"
VALID = timedelta(minutes=15)  # a lease is believed for, after its last put
RENEWED = 240.0  # seconds between two puts
_WRITER, _GC = "writer", "gc"


class ObjectLeases:
    """The leases of one machine on one index: objects leases/<what>.<machine>; of a version, writer or gc."""

    def __init__(self, bucket: Bucket, machine: str, local: Path) -> None:
        self._bucket, self._machine, self._local = bucket, machine, local

    def reading(self, number: int, there: Callable[[], bool]) -> Callable[[], None] | None:
        """Tells that a version is read, until the call; None where it is not `there` any more.

        Who may not write tells nothing: the grace period alone keeps its version.
        """
        stamp = self._local / LEASES / str(number)
        if not _fresh(stamp):
            if not self._put(str(number), stamp):
                return _nothing
            if not there():  # gc looks at leases again after it took the version away
                stamp.unlink(missing_ok=True)
                return None
        return self._renewing(str(number), stamp)

    def of_others(self) -> set[int]:
        """Versions that other machines read."""
        return {int(what) for what, _ in self._live() if what.isdecimal()}

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds gc off, wherever it runs. Raises IndexMismatch where it is at work on another machine."""
        with self._held(_WRITER):
            if _GC in (found := dict(self._live())):
                raise IndexMismatch(
                    f"`crater-ray gc` works on {self._bucket.url} ({self._named(found[_GC])}); "
                    "run this again when it is done"
                )
            yield

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Holds writers off. Raises IndexMismatch where one is at work on another machine."""
        with self._held(_GC):
            if found := [key for what, key in self._live() if what in (_WRITER, _GC)]:
                raise IndexMismatch(
                    f"another driver ({self._named(found[0])}) writes {self._bucket.url}; wait for it. "
                    f"One that was killed is waited for {VALID // timedelta(minutes=1)} minutes"
                )
            yield

    def expired(self) -> list[str]:
        """Keys of leases that nobody holds any more."""
        return [key for key, age in self._ages() if age > VALID]

    def _live(self) -> Iterator[tuple[str, str]]:
        """What each lease of another machine tells of, and its key."""
        for key, age in self._ages():
            what, _, machine = key.removeprefix(f"{LEASES}/").partition(".")
            if age <= VALID and machine != self._machine:
                yield what, key

    def age(self, written: datetime) -> timedelta:
        """How long ago that was, by the storage's clock."""
        return max(timedelta(), datetime.now(UTC) + self._ahead - written)

    @cached_property
    def _ahead(self) -> timedelta:
        """Of this machine's clock is the storage's; an object is made to see it, and removed."""
        key, before = f"{LEASES}/clock.{self._machine}", datetime.now(UTC)
        self._bucket.put(key, b"")
        there = self._bucket.written(key)
        self._bucket.remove([key])
        return there - before if there is not None else timedelta()

    def _ages(self) -> list[tuple[str, timedelta]]:
        return [(one.key, self.age(one.written)) for one in self._bucket.objects(LEASES)]

    @contextmanager
    def _held(self, what: str) -> Iterator[None]:
        stamp = self._local / LEASES / what
        self._bucket.put(self._key(what), _who())
        stop = self._renewing(what, stamp)
        try:
            yield
        finally:
            stop()
            with suppress(CraterRayError):  # else it expires
                self._bucket.remove([self._key(what)])

    def _renewing(self, what: str, stamp: Path) -> Callable[[], None]:
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(RENEWED):
                with suppress(CraterRayError):
                    self._put(what, stamp)

        threading.Thread(target=renew, name=f"lease {what}", daemon=True).start()
        return ended.set

    def _put(self, what: str, stamp: Path) -> bool:
        """Whether the lease could be put."""
        began = time.time()
        if not self._bucket.put_if_allowed(self._key(what), _who()):
            return False
        make_folder(stamp.parent)
        stamp.touch()
        os.utime(stamp, (began, began))
        return True

    def _key(self, what: str) -> str:
        return f"{LEASES}/{what}.{self._machine}"

    def _named(self, key: str) -> str:
        data = self._bucket.get(key)
        try:
            told = json.loads(data or b"")
            return f"pid {told['pid']}, host {told['host']}"
        except (ValueError, KeyError, TypeError):
            return "it has not said which"


def _who() -> bytes:
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode()


def _fresh(stamp: Path) -> bool:
    """Whether this machine put the lease a moment ago, so that it is good for as long as one renews it."""
    try:
        return 0 <= time.time() - stamp.stat().st_mtime < RENEWED
    except FileNotFoundError:
        return False


def _nothing() -> None:
    """There is nothing to release."""
