"""Encoder actors that work through named parts: bounded work in flight, deaths and failures accounted for.

A worker first says where it runs and that its device computes; only then it is given parts. One that dies, or
whose device fails, is replaced, and its part goes to another.
"""

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
from crater_ray.errors import ClusterError, CraterRayError, DeviceError, StorageFull, UserError
from crater_ray.index.store import store_at
from crater_ray.jobs.encoder_actor import EncoderActor
from crater_ray.jobs.journal import Careful, Deaths
from crater_ray.jobs.nodes import Checked, Node, Nodes, alive
from crater_ray.jobs.part import Done, Work
from crater_ray.jobs.ray_errors import DEATHS, by_itself, last_line, unable
from crater_ray.jobs.ray_errors import cause as inside
from crater_ray.jobs.watch import Watched

CAREFUL_AFTER = 2  # worker deaths on a part before it runs one journalled image at a time
TRIES = 3  # of a part whose read or write failed (OSError), or under which a device failed
IDLE_DEATHS = 8  # deaths in a row without one finished part: the cluster, not a part, is sick


@dataclass
class Outcome:
    """What became of the parts."""

    done: dict[str, Done] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # part -> reason
    deaths: int = 0


@dataclass(frozen=True)
class _Try:
    """A part in an actor's hands."""

    actor: Any
    node: Node
    part: str
    careful: Careful | None


def work_through(
    work: Work,
    parts: Sequence[str],
    table: ClusterTable,
    report: Callable[[int, int, int], None] = lambda parts, images, there: None,
) -> Outcome:
    """Every part encoded or named as failed. `report(parts, images, there)` is called about once a second.

    Raises the UserError or StorageFull of a worker at once, ClusterError when workers only die or none finds
    a node to run on.
    """
    return _Pool(work, parts, table, report).run()


class _Pool:
    def __init__(
        self, work: Work, parts: Sequence[str], table: ClusterTable, report: Callable[[int, int, int], None]
    ) -> None:
        self.work, self.table, self.report = work, table, report
        self.waiting = deque(parts)
        self.outcome = Outcome()
        self.nodes = Nodes(table, work.without)
        self.store = store_at(work.root)
        self.deaths: Tally[str] = Tally()  # by part
        self.tries: Tally[str] = Tally()
        self.broken: Tally[str] = Tally()  # devices that failed under a part
        self.left: dict[str, str] = {}  # part -> id of the node where it failed last
        self.idle_deaths = 0
        self.starting: dict[Any, Any] = {}  # object ref -> actor
        self.running: dict[Any, _Try] = {}  # object ref -> what it is
        self.seen: dict[Any, Watched] = {}  # actor -> what it has told of itself
        self.stalled: set[Any] = set()  # actors that were ended since they stood still
        self.images = 0  # of actors that have gone

    def run(self) -> Outcome:
        try:
            for _ in range(min(self.table.encoders, len(self.waiting))):
                self._start()
            last = 0.0
            while self.running or (self.starting and self.waiting):
                ready, _ = ray.wait([*self.starting, *self.running], num_returns=1, timeout=1.0)
                for ref in ready:
                    if ref in self.starting:
                        self._joins(ref, self.starting.pop(ref))
                    else:
                        self._settle(ref, self.running.pop(ref))
                if time.monotonic() - last > 1.0:
                    last = time.monotonic()
                    self._look()
            self._count()
            return self.outcome
        finally:
            for actor in list(self.seen):
                ray.kill(actor, no_restart=True)

    def _start(self) -> None:
        try:
            where = self.nodes.options()
        except ClusterError:
            if self.running or self.starting:
                return  # those that compute go on
            raise
        actor = EncoderActor.options(
            num_cpus=self.table.cpus_per_encoder,
            num_gpus=self.table.gpus_per_encoder,
            max_restarts=0,
            max_concurrency=2,
            **where,
        ).remote()
        self.seen[actor] = Watched(actor)
        self.starting[actor.check.remote(self.work.device)] = actor

    def _joins(self, ref: Any, actor: Any) -> None:
        """Takes in an actor that has started, if it can compute."""
        try:
            checked: Checked = ray.get(ref)
        except DEATHS as error:
            self._forget(actor)
            self._one_more_death(f"before it was given a part: {last_line(error)}")
            self._start()
            return
        except RayTaskError as error:
            raise inside(error) from None
        except RayError as error:
            raise unable(error) from None
        if checked.fault is None:
            self._next(actor, checked.node)
            return
        self._end(actor)
        self.nodes.unfit(checked.node, checked.fault)
        self._one_more_death(f"on node {checked.node.name}: {checked.fault}")
        self._start()

    def _next(self, actor: Any, node: Node) -> None:
        """Gives an actor the next part; one without work is let go, so that another may have its place."""
        if not self.waiting:
            self._end(actor)
            return
        part = self._part_for(node)
        careful = Deaths(self.store, part).begin() if self.deaths[part] >= CAREFUL_AFTER else None
        self.seen[actor].begins()
        encoding = actor.encode.remote(self.work, part, careful)
        self.running[encoding] = _Try(actor, node, part, careful)

    def _part_for(self, node: Node) -> str:
        """The first part; on a cluster of several nodes the first that has not just failed on this one."""
        others = {one.node.id for one in self.running.values()} - {node.id}
        part = next(
            (one for one in self.waiting if not others or self.left.get(one) != node.id), self.waiting[0]
        )
        self.waiting.remove(part)
        return part

    def _end(self, actor: Any) -> None:
        self._forget(actor)
        ray.kill(actor, no_restart=True)

    def _forget(self, actor: Any) -> None:
        watched = self.seen.pop(actor, None)
        self.images += (watched.images or 0) if watched else 0

    def _settle(self, ref: Any, tried: _Try) -> None:
        """Books one finished call, and gives its actor, or another in its place, the next part."""
        part = tried.part
        try:
            self.outcome.done[part] = ray.get(ref)
        except RayTaskError as error:
            cause = inside(error)
            if isinstance(cause, UserError | StorageFull):
                raise cause from None
            if isinstance(cause, DeviceError):
                self._breaks(tried, cause)
                return
            self._fails(part, cause)
        except DEATHS as error:
            self._dies(tried, error)
            return
        except RayError as error:
            raise unable(error) from None
        else:
            self.idle_deaths = 0
            self.nodes.done(tried.node)
            Deaths(self.store, part).clear()
        self._next(tried.actor, tried.node)

    def _fails(self, part: str, cause: BaseException) -> None:
        self.tries[part] += 1
        if isinstance(cause, OSError) and self.tries[part] < TRIES:
            self.waiting.append(part)
        else:
            self.outcome.failed[part] = (
                cause.message if isinstance(cause, CraterRayError) else last_line(cause)
            )

    def _breaks(self, tried: _Try, error: DeviceError) -> None:
        """A device failed, and whatever its process computes from now on is suspect: it is ended."""
        part = tried.part
        self._end(tried.actor)
        self.broken[part] += 1
        self.nodes.failed(tried.node, part, error.message)
        if self.broken[part] < TRIES:
            self.left[part] = tried.node.id
            self.waiting.appendleft(part)
        else:
            self.outcome.failed[part] = (
                f"the device failed under it in {TRIES} workers, the last on node {tried.node.name}: "
                f"{error.message}"
            )
        self._one_more_death(f"on part {part}, node {tried.node.name}: {error.message}")
        self._replace()

    def _dies(self, tried: _Try, error: RayError) -> None:
        """A worker has gone: by itself, or with its node, or since it stood still and was ended."""
        part, actor = tried.part, tried.actor
        stalled = actor in self.stalled
        if stalled or (by_itself(error) and alive(tried.node.id)):
            self.deaths[part] += 1
            if tried.careful:
                Deaths(self.store, part).add(tried.careful.attempt)
            self.nodes.failed(tried.node, part, "workers die there")
        self._forget(actor)
        self.left[part] = tried.node.id
        self.waiting.appendleft(part)
        self._one_more_death(f"on part {part}: {last_line(error)}")
        self._replace()

    def _replace(self) -> None:
        if self.waiting:
            self._start()

    def _one_more_death(self, last: str) -> None:
        self.outcome.deaths += 1
        self.idle_deaths += 1
        if self.idle_deaths > IDLE_DEATHS:
            raise ClusterError(
                f"{self.idle_deaths} encoder workers died one after another, the last {last}; look at the "
                "memory and devices of the nodes, then run again: what is done is kept"
            )

    def _look(self) -> None:
        """Counts, and ends the worker that stands still: its part is then that of a worker that died."""
        self._count()
        working = [*self.starting.values(), *(one.actor for one in self.running.values())]
        watched = [self.seen[actor] for actor in working]
        for one in watched:
            if one.images is not None and one.still() > self.table.stall_seconds:
                self.stalled.add(one.actor)
                ray.kill(one.actor, no_restart=True)
        if watched and all(one.images is None and one.still() > self.table.stall_seconds for one in watched):
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
        done = self.outcome.done.values()
        there = sum(one.entry.rows + one.entry.skipped for one in done if not one.encoded)
        self.report(settled, max(told, sum(one.encoded for one in done)), there)
