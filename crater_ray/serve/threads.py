"""Threads and cores of a process: files off the event loop, a thread that computes, cores lent to it.

A lone pass has all cores; under load each has one. Two passes that share cores wait for each other at every
step of a network, and take more than twice the time of one after the other.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from crater_ray.files import lock, unlock
from crater_ray.serve.calls import Late, end, within
from crater_ray.waiting import brief_spin

Given = ParamSpec("Given")
Value = TypeVar("Value")
FILES = 4  # threads that touch files: a storage that hangs holds up so many requests, and no other
WAIT = 1.0  # seconds after which a pass runs all the same: whoever has the cores may hang
PAUSE = 0.0005  # between two looks
BUILDING = 0.5  # seconds that a replica which starts waits for a core
_FILES = ThreadPoolExecutor(FILES, thread_name_prefix="crater-ray-files")


async def off_loop(work: Callable[Given, Value], *arguments: Given.args, **more: Given.kwargs) -> Value:
    """What `work` on files or object storage gives; the loop answers other requests meanwhile."""
    return await asyncio.get_running_loop().run_in_executor(_FILES, partial(work, *arguments, **more))


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


class Turns:
    """The only thread that an object is used from, until each call has really ended.

    A caller who is cancelled, or whose time is over, takes a call that waits out of the queue. One that runs
    is not interrupted, and the next begins after it.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._began: float | None = None  # the call that runs, by time.monotonic()

    async def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What `work` gives. Raises Late when the caller's time is over before it begins."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._within, end(), work, *arguments)

    def running(self) -> float:
        """Seconds that the call in hand has taken so far, 0 when there is none."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    def check(self, seconds: float) -> None:
        """Raises RuntimeError when a call has run for longer than any caller waits: the thread hangs."""
        if self.running() > seconds:
            raise RuntimeError(f"a call has run for {self.running():.0f} s, and its caller is long gone")

    def _within(self, until: float, work: Callable[..., Any], *arguments: Any) -> Any:
        self._began = now = time.monotonic()
        try:
            if now >= until:
                raise Late("the time was over before the work began")
            if math.isinf(until):
                return self._call(work, *arguments)
            with within(until - now):
                return self._call(work, *arguments)
        finally:
            self._began = None

    def _call(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return work(*arguments)


class CoreTurns(Turns):
    """The one thread of a replica that computes, on cores that no other replica uses meanwhile.

    Its team of threads is the only one: a second team in a process makes every pass slower. So what it runs
    is built without one, or by a thread that ends.
    """

    def __init__(self, threads: int) -> None:
        brief_spin()
        super().__init__()
        self._cores, self._threads = Cores(), threads

    def first(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What `work` gives with all threads, waited for; several replicas may build at once."""
        return self._thread.submit(self._whole, work, *arguments).result()

    def _whole(self, work: Callable[..., Any], *arguments: Any) -> Any:
        import torch

        torch.set_num_threads(self._threads)
        return work(*arguments)

    def behind(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What `work` gives, made behind all that is answered meanwhile: at low priority, and on one core.

        It may not start a team of its own: torch has one thread there.
        """
        with ThreadPoolExecutor(1, initializer=lower_priority) as waiting:
            return waiting.submit(self._aside, work, *arguments).result()

    def _aside(self, work: Callable[..., Any], *arguments: Any) -> Any:
        with self._cores.lent(1, BUILDING, left=1):
            return work(*arguments)

    def _call(self, work: Callable[..., Any], *arguments: Any) -> Any:
        import torch

        with self._cores.lent(self._threads) as cores:
            torch.set_num_threads(max(1, cores))
            return work(*arguments)


def lower_priority() -> None:
    """Of this thread."""
    if sys.platform == "linux":  # elsewhere it would be that of the process, for good
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
