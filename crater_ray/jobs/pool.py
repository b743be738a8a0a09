"""Encoder actors that work through named parts: bounded work in flight, deaths and failures accounted for."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from crater_ray.config import ClusterTable
from crater_ray.errors import ClusterError, CraterRayError, StorageFull, UserError
from crater_ray.jobs.answers import DEATHS, last_line, unable
from crater_ray.jobs.answers import cause as inside
from crater_ray.jobs.encoder_actor import EncoderActor
from crater_ray.jobs.part import Done, Work
from crater_ray.jobs.watch import Watched

CAREFUL_AFTER = 2  # worker deaths on a part before it runs one journalled image at a time
TRIES = 3  # of a part whose read or write failed (OSError)
IDLE_DEATHS = 8  # deaths in a row without one finished part: the cluster, not a part, is sick


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

    Raises the UserError or StorageFull of a worker at once, ClusterError when workers only die or none finds
    a node to run on.
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
        self.seen: dict[Any, Watched] = {}  # actor -> what it has told of itself
        self.images = 0  # of actors that have gone

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
                    self._look()
            self._count()
            return self.outcome
        finally:
            for actor in list(self.seen):
                ray.kill(actor, no_restart=True)

    def _start(self) -> Any:
        actor = EncoderActor.options(
            num_cpus=self.table.cpus_per_encoder,
            num_gpus=self.table.gpus_per_encoder,
            max_restarts=0,
            max_concurrency=2,
        ).remote()
        self.seen[actor] = Watched(actor)
        return actor

    def _next(self, actor: Any) -> None:
        """Gives an actor the next part; one without work is let go, so that another may have its place."""
        if not self.waiting:
            self._forget(actor)
            ray.kill(actor, no_restart=True)
            return
        part = self.waiting.popleft()
        careful = self.deaths[part] >= CAREFUL_AFTER
        self.seen[actor].begins()
        self.running[actor.encode.remote(self.work, part, careful)] = (actor, part)

    def _forget(self, actor: Any) -> None:
        watched = self.seen.pop(actor, None)
        self.images += (watched.images or 0) if watched else 0

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
                    cause.message if isinstance(cause, CraterRayError) else last_line(cause)
                )
            return actor
        except DEATHS as error:
            self.outcome.deaths += 1
            self.idle_deaths += 1
            self.deaths[part] += 1
            self._forget(actor)
            if self.idle_deaths > IDLE_DEATHS:
                raise ClusterError(
                    f"{self.idle_deaths} encoder workers died one after another, the last on part {part}: "
                    f"{last_line(error)}; look at the memory of the nodes, then run again: what is done "
                    "is kept"
                ) from None
            self.waiting.appendleft(part)
            return self._start()
        except RayError as error:
            raise unable(error) from None

    def _look(self) -> None:
        """Counts, and ends the worker that stands still: its part is then that of a worker that died."""
        self._count()
        working = [self.seen[actor] for actor, _ in self.running.values()]
        for watched in working:
            if watched.images is not None and watched.still() > self.table.stall_seconds:
                ray.kill(watched.actor, no_restart=True)
        if working and all(w.images is None and w.still() > self.table.stall_seconds for w in working):
            raise ClusterError(
                f"no node has taken an encoder of {self.table.cpus_per_encoder:g} CPU and "
                f"{self.table.gpus_per_encoder:g} GPU for {self.table.stall_seconds:g} s; add a node or wait "
                "for one, then run again: what is done is kept"
            )

    def _count(self) -> None:
        for watched in self.seen.values():
            watched.ask()
        asked = [watched.asked for watched in self.seen.values() if watched.asked is not None]
        ray.wait(asked, num_returns=len(asked), timeout=0.5) if asked else None
        for watched in self.seen.values():
            watched.hear()
        settled = len(self.outcome.done) + len(self.outcome.failed)
        told = self.images + sum(watched.images or 0 for watched in self.seen.values())
        self.report(settled, max(told, sum(done.encoded for done in self.outcome.done.values())))
