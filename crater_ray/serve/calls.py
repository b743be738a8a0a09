"""Calls to replicas that may die or be slow: tried again a few times, each within its time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

from crater_ray.errors import CraterRayError, UserError

logger = logging.getLogger("ray.serve")


class Target(Protocol):
    """A group of equal replicas: one of them answers."""

    async def __call__(self, method: str, *arguments: Any) -> Any: ...


class Busy(Exception):
    """Every replica's queue is full: nothing was done, and trying again at once would not help."""


class NoAnswer(CraterRayError):
    """A group of replicas that did not answer, however often it was asked."""


async def call(target: Target, method: str, *arguments: Any, name: str, retries: int, seconds: float) -> Any:
    """What the first replica that answers in time says.

    A caller's mistake is raised as it is, and Busy; anything else is tried again. Raises NoAnswer in the end.
    """
    for attempt in range(retries + 1):
        try:
            return await asyncio.wait_for(target(method, *arguments), seconds)
        except (UserError, Busy):
            raise
        except Exception as error:  # a replica that died, hangs, or lacks the version: another may answer
            logger.warning("%s.%s, attempt %d: %s", name, method, attempt + 1, _line(error))
    raise NoAnswer(f"{name} did not answer {retries + 1} times")


async def call_all(
    targets: Sequence[Target], method: str, *arguments: Any, name: str, retries: int, seconds: float
) -> list[Any]:
    """One answer a target, a NoAnswer for one that gave none. Raises a caller's mistake, and Busy."""
    calls = [
        _or_no_answer(
            call(target, method, *arguments, name=f"{name} {number}", retries=retries, seconds=seconds)
        )
        for number, target in enumerate(targets)
    ]
    return [await calls[0]] if len(calls) == 1 else await asyncio.gather(*calls)


async def _or_no_answer(answer: Awaitable[Any]) -> Any:
    try:
        return await answer
    except NoAnswer as error:
        return error


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[-1] if str(error).strip() else ''}"
