"""The time that is left of a request, for whatever is done on its behalf: it goes where the call goes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_END: ContextVar[float] = ContextVar("crater_ray_deadline", default=math.inf)  # of time.monotonic()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """What is done inside has `seconds`, or less where less was left."""
    token = _END.set(min(_END.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _END.reset(token)


def end() -> float:
    """When the time is over, by this process's monotonic clock; infinite outside of a request."""
    return _END.get()


def left() -> float:
    """Seconds that are left, 0 at least; infinite outside of a request."""
    return max(0.0, _END.get() - time.monotonic())
