"""Calls to replicas: what time a request has left goes along; one is retried only where a replica died."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from crater_ray.errors import CraterRayError, UserError
from crater_ray.serve.searcher import NotHeld

logger = logging.getLogger("ray.serve")
Value = TypeVar("Value")
Methods = Mapping[str, Callable[..., Awaitable[Any]]]
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


class Target(Protocol):
    """A group of equal replicas: one of them answers. The time that is left travels with it.

    Raises ConnectionError for a replica that died, is stopping or is not reached, NotHeld, Busy, and what the
    work itself raised.
    """

    async def __call__(self, method: str, *arguments: Any) -> Any: ...


class Busy(Exception):
    """Every replica's queue is full: nothing was done, and trying again at once would not help."""


class NoAnswer(CraterRayError):
    """A group of replicas that did not answer, whatever the retries."""


class Late(NoAnswer):
    """No answer within the time there was; or work that did not start, for its caller no longer waits."""


class Fault(NoAnswer):
    """A replica that failed at the work: another would fail as well. Its log says how."""


async def call(
    target: Target, method: str, *arguments: Any, name: str, retries: int, timeout_s: float
) -> Any:
    """What a replica says within `timeout_s`, or within what the request has left, if that is less.

    Retried, up to `retries` times and within the same time, only where a replica died or lacks the
    version. A caller's mistake is raised as it is, and Busy. Raises Late, Fault, NoAnswer.
    """
    with within(timeout_s):
        for attempt in range(retries + 1):
            remaining = left()
            try:
                async with asyncio.timeout(None if math.isinf(remaining) else remaining) as limit:
                    return await target(method, *arguments)
            except (UserError, Busy, NoAnswer):
                raise
            except (ConnectionError, NotHeld) as error:
                logger.warning("%s.%s, attempt %d: %s", name, method, attempt + 1, _line(error))
            except Exception as error:
                if isinstance(error, TimeoutError) and limit.expired():
                    logger.warning("%s.%s: no answer within %.3g s", name, method, remaining)
                    raise Late(f"{name} did not answer in time") from None
                logger.error("%s.%s: %s", name, method, _line(error), exc_info=error)
                raise Fault(f"{name} failed: {_line(error)}") from error
    raise NoAnswer(f"{name} did not answer {retries + 1} times")


async def call_all(
    targets: Sequence[Target], method: str, *arguments: Any, name: str, retries: int, timeout_s: float
) -> list[Any]:
    """One answer a target, a NoAnswer for one that gave none. Raises a caller's mistake, and Busy."""
    return await gathered(
        _or_no_answer(
            call(target, method, *arguments, name=f"{name} {number}", retries=retries, timeout_s=timeout_s)
        )
        for number, target in enumerate(targets)
    )


async def gathered(calls: Iterable[Coroutine[Any, Any, Value]]) -> list[Value]:
    """What all of them give. The first error is raised, and ends the others: nobody waits for them."""
    listed = list(calls)
    if len(listed) == 1:
        return [await listed[0]]
    tasks = [asyncio.ensure_future(one) for one in listed]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _or_no_answer(answer: Awaitable[Any]) -> Any:
    try:
        return await answer
    except NoAnswer as error:
        return error


@dataclass(frozen=True, slots=True)
class Answer:
    """A replica's answer to one call: a value, or an error that the caller may see."""

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


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[-1] if str(error).strip() else ''}"
