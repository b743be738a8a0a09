"""Fits run once, before the first part, on the items whose hashed id is lowest."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator
from typing import Any

import ray
import xxhash
from ray.exceptions import RayError, RayTaskError

from crater_ray.config import ClusterTable
from crater_ray.errors import ClusterError, DeviceError, ReaderError
from crater_ray.index.store import store_at
from crater_ray.jobs.encoder_actor import EncoderActor
from crater_ray.jobs.journal import Careful, Deaths
from crater_ray.jobs.nodes import Checked, Node, Nodes, alive
from crater_ray.jobs.part import Work
from crater_ray.jobs.pool import CAREFUL_AFTER, IDLE_DEATHS
from crater_ray.jobs.progress import Counter
from crater_ray.jobs.ray_errors import DEATHS, by_itself, cause, last_line, unable
from crater_ray.jobs.watch import Watched
from crater_ray.plugins import Reader, registry
from crater_ray.types import Item


def fit(
    work: Work, roles: Iterable[str], table: ClusterTable, sample: int, seed: int, *, quiet: bool = False
) -> dict[str, str]:
    """role -> sha of its fitted file, for the roles that learn.

    A worker that dies or stands still, or whose device fails, is restarted, in the end one journalled image
    at a time.
    Raises ReaderError without items, ClusterError when workers only die.
    """
    reader: Reader = registry().build(work.reader)
    items = sampled((item for part in reader.parts() for item in reader.read(part)), sample)
    if not items:
        raise ReaderError(f"reader {work.reader.name!r} lists no item, so there is nothing to learn from")
    roles = tuple(roles)
    shas: dict[str, str] = {}
    nodes, record = Nodes(table, work.without), Deaths(store_at(work.root), "fit")
    deaths = broken = 0
    what, images = f"fit of {', '.join(roles)}", len(roles) * len(items)
    with Counter(what, len(roles), quiet, unit="fits", images=images) as counter:
        while len(shas) < len(roles):
            careful = record.begin() if deaths >= CAREFUL_AFTER else None
            with _Learner(work, table, items, counter, shas, nodes) as learner:
                try:
                    for role in roles[len(shas) :]:
                        shas[role] = learner.learn(role, seed, careful)
                    continue
                except DeviceError as error:
                    broken, last = broken + 1, error.message
                    if learner.node:
                        nodes.unfit(learner.node, error.message)
                except DEATHS as error:
                    broken, last = broken + 1, last_line(error)
                    if learner.died_by_itself(error):
                        deaths += 1
                        if careful:
                            record.add(careful.attempt)
            if broken > IDLE_DEATHS:
                raise ClusterError(
                    f"{broken} workers died one after another while they learnt from a sample: {last}; "
                    "look at the memory and devices of the nodes, then run again"
                )
    record.clear()
    return shas


class _Learner:
    """One encoder actor that fits."""

    def __init__(
        self,
        work: Work,
        table: ClusterTable,
        items: list[Item],
        counter: Counter,
        shas: dict[str, str],
        nodes: Nodes,
    ) -> None:
        self.work, self.table, self.items, self.counter, self.shas = work, table, items, counter, shas
        self.told = 0  # images before the role that is learnt now
        self.node: Node | None = None  # once it has said where it runs
        self.stalled = False  # and was ended for it
        self.actor = EncoderActor.options(
            num_cpus=table.cpus_per_encoder,
            num_gpus=table.gpus_per_encoder,
            max_concurrency=2,
            **nodes.options(),
        ).remote()

    def learn(self, role: str, seed: int, careful: Careful | None) -> str:
        """The sha of what it learnt.

        Raises the error of the fit, one of DEATHS, DeviceError when its device does not compute, and
        ClusterError.
        """
        watched = Watched(self.actor)
        if self.node is None:
            checked: Checked = self._answer(self.actor.check.remote(self.work.device), watched, math.inf)
            self.node = checked.node
            if checked.fault is not None:
                raise DeviceError(f"node {checked.node.name}: {checked.fault}")
        learning = self.actor.fit.remote(self.work, role, self.items, seed, careful)
        sha = str(self._answer(learning, watched, self.told + len(self.items)))
        self.told += len(self.items)
        return sha

    def died_by_itself(self, error: RayError) -> bool:
        return self.stalled or (by_itself(error) and self.node is not None and alive(self.node.id))

    def _answer(self, ref: Any, watched: Watched, until: float) -> Any:
        """What the actor gives; it is ended where it stands still before it has encoded `until` images."""
        while not ray.wait([ref], timeout=1.0)[0]:
            watched.ask()
            watched.hear()
            self.counter.update(len(self.shas), watched.images or 0)
            encoding = watched.images is not None and watched.images < until
            if encoding and watched.still() > self.table.stall_seconds:  # what is learnt then takes its time
                self.stalled = True
                ray.kill(self.actor, no_restart=True)
        try:
            return ray.get(ref)
        except RayTaskError as error:
            raise cause(error) from None
        except DEATHS:
            raise
        except RayError as error:
            raise unable(error) from None

    def __enter__(self) -> _Learner:
        return self

    def __exit__(self, *_: Any) -> None:
        ray.kill(self.actor, no_restart=True)


def sampled(items: Iterator[Item], count: int) -> list[Item]:
    """The `count` items of lowest hash(id), sorted by id."""
    lowest = heapq.nsmallest(
        count, items, key=lambda item: (xxhash.xxh64_intdigest(item.id.encode()), item.id)
    )
    return sorted(lowest, key=lambda item: item.id)
