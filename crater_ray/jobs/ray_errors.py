"""What a worker said: its answer, or the error it raised with its own type."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import (
    ActorUnavailableError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from crater_ray.errors import ClusterError
from crater_ray.plugins.blame import blamed

DEATHS = (RayActorError, NodeDiedError, OutOfMemoryError, WorkerCrashedError)  # begin again elsewhere
ENDED = ("killed by `ray.kill`", "its node has died", "its owner has died")  # as Ray says it


def answer(ref: Any) -> Any:
    """The result of a task. Raises the error that the task raised, without Ray's wrapping around it.

    Raises ClusterError where Ray cannot say: a worker, its node or the cluster has gone.
    """
    try:
        return ray.get(ref)
    except RayTaskError as error:
        raise cause(error) from None
    except RayError as error:
        raise unable(error) from None


def cause(error: RayTaskError) -> BaseException:
    """The error inside, or the wrapping where there is nothing inside."""
    return error.cause if isinstance(error.cause, BaseException) else error


def by_itself(error: RayError) -> bool:
    """Whether one of DEATHS is a worker's own: not its node's, and not by the hand of who ends workers."""
    gone = isinstance(error, ActorUnavailableError | NodeDiedError) or getattr(error, "preempted", False)
    return not gone and not any(words in str(error) for words in ENDED)


def unable(error: RayError) -> ClusterError:
    """A failure of Ray's own."""
    return ClusterError(f"the Ray cluster failed: {last_line(error)}; run again: what is done is kept")


def last_line(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    by = blamed(error)
    return f"{type(error).__name__}: {lines[-1].strip() if lines else 'no message'}" + (
        f", {by}" if by else ""
    )
