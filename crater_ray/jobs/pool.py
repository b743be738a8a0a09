"""Encoder actors that work through named parts: bounded work in flight, deaths and failures accounted for."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError, RayTaskError

from crater_ray.config import ClusterTable
from crater_ray.errors import ClusterError, CraterRayError, StorageFull, UserError
from crater_ray.jobs.answers import cause as inside
from crater_ray.jobs.encoder_actor import EncoderActor
from crater_ray.jobs.part import Done, Work

CAREFUL_AFTER = 2  # worker deaths on a part before it runs one journalled image at a time
TRIES = 3  # of a part whose read or write failed (OSError)
IDLE_DEATHS = 8  # deaths in a row without one finished part: the cluster, not a part, is sick
DEATHS = (RayActorError, ActorDiedError, ActorUnavailableError)


@dataclass
class Outcome:
    """What became of the parts."""

    done: dict[str, Done] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # part -> reason
    deaths: int = 0


def work_through(
    work: Work,
    parts: Sequence[str],
    table: ClusterTable,
    report: Callable[[int, int], None] = lambda parts, images: None,
) -> Outcome:
    """Every part encoded or named as failed. `report(parts, images)` is called about once a second.

    Raises the UserError or StorageFull of a worker at once, ClusterError when workers only die.
    """
    return _Pool(work, parts, table, report).run()


class _Pool:
    def __init__(
        self, work: Work, parts: Sequence[str], table: ClusterTable, report: Callable[[int, int], None]
    ) -> None:
        self.work, self.table, self.report = work, table, report
        self.waiting = deque(parts)
        self.outcome = Outcome()
        self.deaths: Tally[str] = Tally()  # by part
        self.tries: Tally[str] = Tally()
        self.idle_deaths = 0
        self.running: dict[Any, tuple[Any, str]] = {}  # object ref -> (actor, part)
        self.seen: dict[Any, int] = {}  # actor -> images it has encoded

    def run(self) -> Outcome:
        try:
            for _ in range(min(self.table.encoders, len(self.waiting))):
                self._next(self._start())
            last = 0.0
            while self.running:
                ready, _ = ray.wait(list(self.running), num_returns=1, timeout=1.0)
                for ref in ready:
                    actor, part = self.running.pop(ref)
                    self._next(self._settle(ref, actor, part))
                if time.monotonic() - last > 1.0:
                    last = time.monotonic()
                    self._count()
            self._count()
            return self.outcome
        finally:
            for actor in {actor for actor, _ in self.running.values()} | set(self.seen):
                ray.kill(actor, no_restart=True)

    def _start(self) -> Any:
        actor = EncoderActor.options(
            num_cpus=self.table.cpus_per_encoder,
            num_gpus=self.table.gpus_per_encoder,
            max_restarts=0,
            max_concurrency=2,
        ).remote()
        self.seen[actor] = 0
        return actor

    def _next(self, actor: Any) -> None:
        """Gives an actor the next part; one without work is let go."""
        if not self.waiting:
            return
        part = self.waiting.popleft()
        careful = self.deaths[part] >= CAREFUL_AFTER
        self.running[actor.encode.remote(self.work, part, careful)] = (actor, part)

    def _settle(self, ref: Any, actor: Any, part: str) -> Any:
        """Books one finished call; the actor to go on with."""
        try:
            self.outcome.done[part] = ray.get(ref)
            self.idle_deaths = 0
            return actor
        except RayTaskError as error:
            cause = inside(error)
            if isinstance(cause, UserError | StorageFull):
                raise cause from None
            self.tries[part] += 1
            if isinstance(cause, OSError) and self.tries[part] < TRIES:
                self.waiting.append(part)
            else:
                self.outcome.failed[part] = (
                    cause.message if isinstance(cause, CraterRayError) else _last_line(cause)
                )
            return actor
        except DEATHS as error:
            self.outcome.deaths += 1
            self.idle_deaths += 1
            self.deaths[part] += 1
            self.seen.pop(actor, None)
            if self.idle_deaths > IDLE_DEATHS:
                raise ClusterError(
                    f"{self.idle_deaths} encoder workers died one after another, the last on part {part}: "
                    f"{_last_line(error)}; look at the memory of the nodes, then run again: what is done "
                    "is kept"
                ) from None
            self.waiting.appendleft(part)
            return self._start()

    def _count(self) -> None:
        asked = {actor.encoded.remote(): actor for actor, _ in self.running.values()}
        ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=0.5) if asked else ([], [])
        for ref in ready:
            try:
                self.seen[asked[ref]] = ray.get(ref)
            except DEATHS:
                continue  # its part will say so
        # an actor that is let go is still in `seen` with its last count
        settled = len(self.outcome.done) + len(self.outcome.failed)
        self.report(
            settled, max(sum(self.seen.values()), sum(done.encoded for done in self.outcome.done.values()))
        )


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1].strip() if lines else 'no message'}"
