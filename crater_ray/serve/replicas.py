"""The replicas of a service: calls to its shards and encoders, with what a request has left of its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from crater_ray.config import ServeTable
from crater_ray.serve.calls import Fault, Late, NoAnswer, Target, call, call_all, left
from crater_ray.serve.metrics import Metrics
from crater_ray.serve.models import Shards
from crater_ray.serve.searcher import unknown

PATIENCE = 0.9  # of a request's time, for shards of which others may answer


@dataclass
class Replicas:
    """One target a shard, and the encoders."""

    searchers: Sequence[Target]
    encoders: Target
    table: ServeTable
    metrics: Metrics = field(default_factory=Metrics)

    async def encoder(self, method: str, *arguments: Any) -> Any:
        """What an encoder answers. Raises as `call`."""
        return await call(self.encoders, method, *arguments, name="encoder", **self._limits)

    async def shard(self, number: int, method: str, *arguments: Any) -> Any:
        """What one shard answers. Raises as `call`."""
        return await call(self.searchers[number], method, *arguments, name="searcher", **self._limits)

    @property
    def _limits(self) -> dict[str, Any]:
        return {"retries": self.table.retries, "timeout_s": self.table.timeout_s}

    async def every(self, method: str, *arguments: Any, strict: bool) -> tuple[list[Any], Shards]:
        """What each shard answers, None for one that does not, and how many do.

        Of several shards one that is late leaves time to answer without it. Raises Late or Fault where no
        shard answers for that reason, NoAnswer where none answers, or with `strict` not every one.
        """
        answers = await self._all(method, *arguments)
        _raise_common(answers)
        found = [None if isinstance(answer, NoAnswer) else answer for answer in answers]
        shards = Shards(answered=sum(one is not None for one in found), total=len(found))
        if shards.answered == 0 or (strict and shards.answered < shards.total):
            self.metrics.shards(shards.answered, shards.total)
            raise NoAnswer(f"{shards.answered} of {shards.total} shards answered; try again")
        return found, shards

    async def owner(self, method: str, version: int, id: str) -> Any:
        """What the one shard that has the item answers. Raises UnknownItem, NoAnswer."""
        answers = await self._all(method, version, id)
        for answer in answers:
            if answer is not None and not isinstance(answer, NoAnswer):
                return answer
        _raise_common(answers)
        if any(isinstance(answer, NoAnswer) for answer in answers):
            raise NoAnswer("a shard that may have the item does not answer; try again")
        raise unknown(id, version)

    async def ready(self, version: int) -> Shards:
        """How many shards hold the version now."""
        patience = self.table.ready_timeout_s
        answers = await call_all(
            self.searchers, "holds", version, name="searcher", retries=0, timeout_s=patience
        )
        return Shards(answered=sum(answer is True for answer in answers), total=len(answers))

    async def _all(self, method: str, *arguments: Any) -> list[Any]:
        patience = min(left(), self.table.timeout_s) * (1 if len(self.searchers) == 1 else PATIENCE)
        limits = {**self._limits, "timeout_s": patience}
        return await call_all(self.searchers, method, *arguments, name="searcher", **limits)


def _raise_common(answers: Sequence[Any]) -> None:
    """Raises Late or Fault where that is why not one shard answered."""
    for kind in (Late, Fault):
        if all(isinstance(answer, kind) for answer in answers):
            raise answers[0]
