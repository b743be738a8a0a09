"""Fits run once, before the first part, on the items whose hashed id is lowest."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Any

import ray
import xxhash
from ray.exceptions import RayError, RayTaskError

from crater_ray.config import ClusterTable
from crater_ray.errors import ClusterError, ReaderError
from crater_ray.jobs.answers import DEATHS, cause, last_line, unable
from crater_ray.jobs.encoder_actor import EncoderActor
from crater_ray.jobs.part import Work
from crater_ray.jobs.pool import CAREFUL_AFTER, IDLE_DEATHS
from crater_ray.jobs.progress import Counter
from crater_ray.jobs.watch import Watched
from crater_ray.plugins import Reader, registry
from crater_ray.types import Item


def fit(
    work: Work, roles: Iterable[str], table: ClusterTable, sample: int, seed: int, *, quiet: bool = False
) -> dict[str, str]:
    """role -> sha of its fitted file, for the roles that learn.

    A worker that dies or stands still is begun again, in the end one journalled image at a time.
    Raises ReaderError without items, ClusterError when workers only die.
    """
    reader: Reader = registry().build(work.reader)
    items = sampled((item for part in reader.parts() for item in reader.read(part)), sample)
    if not items:
        raise ReaderError(f"reader {work.reader.name!r} lists no item, so there is nothing to learn from")
    roles = tuple(roles)
    shas: dict[str, str] = {}
    deaths = 0
    with Counter(f"fit of {', '.join(roles)} on {len(items)} images", len(roles), quiet) as counter:
        while len(shas) < len(roles):
            try:
                with _Learner(work, table, items, counter, shas) as learner:
                    for role in roles[len(shas) :]:
                        shas[role] = learner.learn(role, seed, careful=deaths >= CAREFUL_AFTER)
            except DEATHS as error:
                deaths += 1
                if deaths > IDLE_DEATHS:
                    raise ClusterError(
                        f"{deaths} workers died one after another while they learnt from a sample: "
                        f"{last_line(error)}; look at the memory of the nodes, then run again"
                    ) from None
    return shas


class _Learner:
    """One encoder actor that fits."""

    def __init__(
        self, work: Work, table: ClusterTable, items: list[Item], counter: Counter, shas: dict[str, str]
    ) -> None:
        self.work, self.table, self.items, self.counter, self.shas = work, table, items, counter, shas
        self.told = 0  # images before the role that is learnt now
        self.actor = EncoderActor.options(
            num_cpus=table.cpus_per_encoder, num_gpus=table.gpus_per_encoder, max_concurrency=2
        ).remote()

    def learn(self, role: str, seed: int, careful: bool) -> str:
        """The sha of what it learnt. Raises the error of the fit, one of DEATHS, ClusterError."""
        watched = Watched(self.actor)
        learning = self.actor.fit.remote(self.work, role, self.items, seed, careful)
        while not ray.wait([learning], timeout=1.0)[0]:
            watched.ask()
            watched.hear()
            self.counter.update(len(self.shas), watched.images or 0)
            encoding = watched.images is not None and watched.images < self.told + len(self.items)
            if encoding and watched.still() > self.table.stall_seconds:  # what is learnt then takes its time
                ray.kill(self.actor, no_restart=True)
        try:
            sha = str(ray.get(learning))
        except RayTaskError as error:
            raise cause(error) from None
        except DEATHS:
            raise
        except RayError as error:
            raise unable(error) from None
        self.told += len(self.items)
        return sha

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
