"""A replica's side of a call: one thread that works for many callers, and what is handed back. No Ray."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from crater_ray.errors import CraterRayError
from crater_ray.serve.calls import Fault, Late
from crater_ray.serve.deadline import end, within
from crater_ray.serve.searcher import NotHeld

logger = logging.getLogger("ray.serve")
Methods = Mapping[str, Callable[..., Awaitable[Any]]]


@dataclass(frozen=True, slots=True)
class Answer:
    """Of one call; its error is one that a caller is told of, or a Fault."""

    value: Any = None
    error: Exception | None = None


async def answered(methods: Methods, method: str, seconds: float, arguments: tuple[Any, ...]) -> Answer:
    """A call whose caller waits so long, seen from the replica. Never raises but when it is cancelled."""
    try:
        with within(seconds):
            return Answer(await methods[method](*arguments))
    except (CraterRayError, NotHeld) as error:
        return Answer(error=error)
    except Exception as error:  # its class may not be known elsewhere, nor survive the trip
        logger.exception("%s failed", method)
        return Answer(error=Fault(f"{method} failed: {type(error).__name__}: {error}"))


def opened(answer: Answer) -> Any:
    """The value. Raises the error."""
    if answer.error is not None:
        raise answer.error
    return answer.value


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
