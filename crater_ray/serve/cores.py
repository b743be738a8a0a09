"""Cores lent to one pass at a time: replicas of one machine take turns instead of slowing each other down.

A pass uses all the threads of its replica. Two at once on the same cores wait for each other at every step
of a network, and take more than twice the time of one after the other. The kernel frees what a dead one held.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT = 1.0  # seconds after which a pass runs all the same: whoever has the cores may hang
PAUSE = 0.0005  # between two looks


class Cores:
    """The machine's cores in slots of `threads`, each a locked file of this user's."""

    def __init__(self, threads: int, folder: Path | None = None, cores: int | None = None) -> None:
        """Raises OSError when the folder cannot be made or is another user's."""
        self._folder = folder or Path(tempfile.gettempdir()) / f"crater-ray-cores-{os.getuid()}"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if self._folder.is_symlink() or self._folder.stat().st_uid != os.getuid():
            raise PermissionError(f"{self._folder} is not this user's; remove it, or set TMPDIR")
        slots = max(1, (cores or os.cpu_count() or 1) // threads)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._files = [os.open(self._folder / f"{slot}.lock", flags, 0o600) for slot in range(slots)]

    @contextmanager
    def lent(self, wait: float = WAIT) -> Iterator[bool]:
        """Whether a slot is held: within `wait` seconds the first that is free, else none."""
        slot = self._free(time.monotonic() + wait)
        try:
            yield slot is not None
        finally:
            if slot is not None:
                fcntl.flock(slot, fcntl.LOCK_UN)

    def _free(self, until: float) -> int | None:
        while True:
            for file in self._files:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                return file
            if time.monotonic() > until:
                return None
            time.sleep(PAUSE)
