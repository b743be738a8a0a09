"""What a worker said: its answer, or the error it raised with its own type."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import RayTaskError


def answer(ref: Any) -> Any:
    """The result of a task. Raises the error that the task raised, without Ray's wrapping around it."""
    try:
        return ray.get(ref)
    except RayTaskError as error:
        raise cause(error) from None


def cause(error: RayTaskError) -> BaseException:
    """The error inside, or the wrapping where there is nothing inside."""
    return error.cause if isinstance(error.cause, BaseException) else error
