"""Cores lent to a pass: all that are free when it begins, so that replicas do not slow each other down.

A lone pass has the machine to itself; under load each has a core. Two passes that share cores wait for each
other at every step of a network, and take more than twice the time of one after the other.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crater_ray.files import lock, unlock

WAIT = 1.0  # seconds after which a pass runs all the same: whoever has the cores may hang
PAUSE = 0.0005  # between two looks


class Cores:
    """The machine's cores, each a locked file of this user's: the kernel frees what a dead process held."""

    def __init__(self, folder: Path | None = None, cores: int | None = None) -> None:
        """Raises OSError when the folder cannot be made or is another user's."""
        self._folder = folder or Path(tempfile.gettempdir()) / f"crater-ray-cores-{os.getuid()}"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if self._folder.is_symlink() or self._folder.stat().st_uid != os.getuid():
            raise PermissionError(f"{self._folder} is not this user's; remove it, or set TMPDIR")
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        count = cores or os.cpu_count() or 1
        self._files = [os.open(self._folder / f"{core}.lock", flags, 0o600) for core in range(count)]

    @contextmanager
    def lent(self, most: int, wait: float = WAIT, *, left: int = 0) -> Iterator[int]:
        """How many cores are held, up to `most`: what is free, or what is first; 0 after `wait` seconds.

        left: the first so many are not for us, however free they are.
        """
        held = self._free(self._files[left:], most, time.monotonic() + wait)
        try:
            yield len(held)
        finally:
            for file in held:
                unlock(file)

    @staticmethod
    def _free(files: list[int], most: int, until: float) -> list[int]:
        while files:
            held: list[int] = []
            for file in files:
                if lock(file):
                    held.append(file)
                if len(held) == most:
                    break
            if held or time.monotonic() > until:
                return held
            time.sleep(PAUSE)
        return []
