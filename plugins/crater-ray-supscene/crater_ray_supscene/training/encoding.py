"""The trunk's cache filled on Ray: a shard a task, as many at a time as there are workers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crater_ray.errors import ConfigError
from crater_ray_supscene.training.cluster import cause
from crater_ray_supscene.training.job import TrainJob
from crater_ray_supscene.training.plan import read_plan

Say = Callable[[str], None]


def fill_trunk(job: TrainJob, config: dict[str, Any], row_bytes: int, say: Say) -> bool:
    """Fills the cache with as many tasks as workers; whether training reads it."""
    import ray

    from crater_ray_supscene.training import trunk
    from crater_ray_supscene.training.model import kept

    if job.train.cached == "never":
        return False
    plan, keep = read_plan(job.out / "plan"), kept(job.train.blocks)
    every = trunk.shards(plan, job.cache, config["digest"], keep, job.train.precision)
    missing = [number for number, shard in enumerate(every) if not shard.done]
    if not trunk.fits([every[number] for number in missing], row_bytes, job.cache):
        if job.train.cached == "always":
            raise ConfigError(
                f"the trunk's output takes {len(plan) * row_bytes / 2**30:.1f} GiB, which {job.cache} has no "
                "room for; set train.cache to another disk, or train.cached = 'never'"
            )
        say("the trunk's output does not fit the disk: images are encoded in every step")
        return False
    task = ray.remote(num_cpus=job.cluster.cpus_per_worker, num_gpus=job.cluster.gpus_per_worker)(fill_one)
    waiting = list(reversed(missing))
    there = sum(len(shard.rows) for shard in every if shard.done)
    running: list[Any] = []
    while waiting or running:
        while waiting and len(running) < job.cluster.workers:
            running.append(task.remote(config, waiting.pop()))
        ready, running = ray.wait(running, num_returns=1)
        for one in ready:
            try:
                there += ray.get(one)
            except ray.exceptions.RayTaskError as error:
                raise cause(error) from None
        say(f"trunk: {there} of {len(plan)} images")
    bad = trunk.Cached(every).bad
    if bad:
        row, reason = next(iter(bad.items()))
        say(f"{len(bad)} images cannot be used, the first {plan.images['id'][row].as_py()}: {reason}")
    return True


_ready: dict[str, Any] = {}


def fill_one(config: dict[str, Any], number: int) -> int:
    """The images of one shard of the trunk's cache; a task of Ray, whose process keeps what it has built."""
    import torch

    from crater_ray_supscene.training import trunk
    from crater_ray_supscene.training.job import job_of
    from crater_ray_supscene.training.model import as_trunk, built_backbone, kept
    from crater_ray_supscene.training.pictures import Pictures

    key = json.dumps(config, sort_keys=True)
    if _ready.get("key") != key:
        torch.set_num_threads(config["threads"])
        job = job_of(config["job"], Path(config["path"]))
        plan = read_plan(job.out / "plan")
        backbone = built_backbone(job)
        keep, precision = kept(job.train.blocks), job.train.precision
        size = backbone.preprocess(_grey()).shape
        every = trunk.shards(plan, job.cache, config["digest"], keep, precision)
        pictures = Pictures(plan, backbone)
        device = "cuda" if job.cluster.gpus_per_worker else "cpu"
        trunked = as_trunk(backbone.to(device), keep)
        _ready.update(key=key, every=every, rest=(pictures, trunked, size, precision, device))
    shard = _ready["every"][number]
    trunk.fill(shard, *_ready["rest"])
    return len(shard.rows)


def _grey() -> Any:
    import numpy as np

    return np.zeros((32, 32, 3), np.uint8)
