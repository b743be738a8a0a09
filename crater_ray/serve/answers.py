"""What a replica hands back: a value, or an error of its work. All else that a call raises is a lost call."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from crater_ray.errors import CraterRayError
from crater_ray.serve.calls import Fault
from crater_ray.serve.deadline import within
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
