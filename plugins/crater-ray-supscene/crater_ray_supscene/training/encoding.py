"""The cache of frozen features filled on Ray, shard by shard, by one actor a worker."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from crater_ray.errors import ClusterError, ConfigError, DeviceError
from crater_ray_supscene.training.cluster import cause
from crater_ray_supscene.training.job import TrainJob
from crater_ray_supscene.training.plan import read_plan

Say = Callable[[str], None]
TRIES = 3  # actors that one shard may lose


def fill_frozen_features(job: TrainJob, config: dict[str, Any], row_bytes: int, say: Say) -> bool:
    """Fills the cache with as many actors as workers; whether training reads it."""
    import ray

    from crater_ray_supscene.training import frozen_features
    from crater_ray_supscene.training.model import kept

    if job.train.cached == "never":
        return False
    plan, keep = read_plan(job.out / "plan"), kept(job.train.blocks)
    every = frozen_features.shards(plan, job.cache, config["digest"], keep, job.train.precision)
    missing = [number for number, shard in enumerate(every) if not shard.done]
    if not frozen_features.fits([every[number] for number in missing], row_bytes, job.cache):
        if job.train.cached == "always":
            raise ConfigError(
                f"the frozen features take {len(plan) * row_bytes / 2**30:.1f} GiB, which {job.cache} has no "
                "room for; set train.cache to another disk, or train.cached = 'never'"
            )
        say("the disk has no room for the frozen features: images are encoded in every step")
        return False
    there = sum(len(shard.rows) for shard in every if shard.done)

    def start() -> Any:
        table = job.cluster
        return ray.remote(Filler).options(num_cpus=table.cpus_per_worker, num_gpus=table.gpus).remote(config)

    def done(images: int) -> None:
        nonlocal there
        there += images
        say(f"frozen features: {there} of {len(plan)} images")

    fill_all(start, missing, job.cluster.workers, done)
    bad = frozen_features.CachedFeatures(every).bad
    if bad:
        row, reason = next(iter(bad.items()))
        say(f"{len(bad)} images cannot be used, the first {plan.images['id'][row].as_py()}: {reason}")
    return True


class Filler:
    """An actor that fills shards of the cache one by one, and keeps the model it has built.

    Ray starts a process for every task that holds a GPU; an actor is one process.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config

    def fill(self, number: int) -> int:
        return fill_one(self._config, number)


def fill_all(
    start: Callable[[], Any], numbers: Sequence[int], workers: int, done: Callable[[int], None]
) -> None:
    """Every shard filled by as many actors as workers, which `start` starts; `done(images)` after each.

    An actor that dies, or whose device fails, ends; its shard goes to another. Raises what a worker raised,
    and ClusterError where one shard has lost three actors.
    """
    import ray
    from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError, RayTaskError

    waiting, lost = deque(numbers), Counter[int]()
    running: dict[Any, tuple[Any, int]] = {}  # object ref: actor, shard

    def give(actor: Any) -> None:
        if waiting:
            number = waiting.popleft()
            running[actor.fill.remote(number)] = (actor, number)
        else:
            ray.kill(actor)

    try:
        for _ in range(min(workers, len(waiting))):
            give(start())
        while running:
            (ready,), _ = ray.wait(list(running), num_returns=1)
            actor, number = running.pop(ready)
            try:
                done(ray.get(ready))
            except (RayTaskError, RayActorError, NodeDiedError, OutOfMemoryError) as error:
                reason = cause(error)
                if isinstance(error, RayTaskError):
                    ray.kill(actor)
                    if not isinstance(reason, DeviceError):
                        raise reason from None
                lost[number] += 1
                if lost[number] == TRIES:
                    raise ClusterError(
                        f"shard {number} of the frozen features lost {TRIES} workers: {reason.message}; look "
                        "at the nodes, then run again: what is done is kept"
                    ) from None
                waiting.appendleft(number)
                actor = start()
            give(actor)
    finally:
        for actor, _ in running.values():
            ray.kill(actor)


_ready: dict[str, Any] = {}


def fill_one(config: dict[str, Any], number: int) -> int:
    """The number of images of one shard, filled here; the process keeps the model it has built."""
    import torch

    from crater_ray.encode.device import exact, guarded
    from crater_ray_supscene.training import frozen_features
    from crater_ray_supscene.training.job import job_of
    from crater_ray_supscene.training.model import as_frozen_part, built_backbone, kept
    from crater_ray_supscene.training.pictures import Pictures

    key = json.dumps(config, sort_keys=True)
    if _ready.get("key") != key:
        torch.set_num_threads(config["threads"])
        job = job_of(config["job"], Path(config["path"]))
        plan = read_plan(job.out / "plan")
        backbone = built_backbone(job)
        keep, precision = kept(job.train.blocks), job.train.precision
        size = backbone.preprocess(_grey()).shape
        every = frozen_features.shards(plan, job.cache, config["digest"], keep, precision)
        pictures = Pictures(plan, backbone)
        device = "cuda" if job.cluster.gpus else "cpu"
        if job.cluster.gpus:
            exact()
        frozen = as_frozen_part(backbone.to(device), keep)
        _ready.update(key=key, every=every, rest=(pictures, frozen, size, precision, device))
    shard = _ready["every"][number]
    with guarded(torch.device(_ready["rest"][-1])):
        frozen_features.fill(shard, *_ready["rest"])
    return len(shard.rows)


def _grey() -> Any:
    import numpy as np

    return np.zeros((32, 32, 3), np.uint8)
