"""One thread that works for many callers, call after call; what nobody waits for is not begun. No Ray."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from crater_ray.serve.calls import Late
from crater_ray.serve.deadline import end, within


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
