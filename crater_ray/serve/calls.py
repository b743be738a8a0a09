"""Calls to replicas: each has all the time that is left, and is repeated only where a replica died."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Coroutine, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from crater_ray.errors import CraterRayError, UserError
from crater_ray.serve.deadline import left, within
from crater_ray.serve.searcher import NotHeld

logger = logging.getLogger("ray.serve")
Value = TypeVar("Value")


class Target(Protocol):
    """A group of equal replicas: one of them answers. The time that is left travels with it (deadline.py).

    Raises ConnectionError for a replica that died, is stopping or is not reached, NotHeld, Busy, and what the
    work itself raised.
    """

    async def __call__(self, method: str, *arguments: Any) -> Any: ...


class Busy(Exception):
    """Every replica's queue is full: nothing was done, and trying again at once would not help."""


class NoAnswer(CraterRayError):
    """A group of replicas that did not answer, however often it was asked."""


class Late(NoAnswer):
    """No answer within the time there was; or work that was not begun, for its caller no longer waits."""


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


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[-1] if str(error).strip() else ''}"
