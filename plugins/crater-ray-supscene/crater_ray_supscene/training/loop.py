"""One worker of a run: steps, checkpoints, held-out numbers. Every draw is of the seed and the step."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from crater_ray.encode.device import exact
from crater_ray.errors import ConfigError, CraterRayError
from crater_ray_supscene.aggregators.netvlad import Netvlad
from crater_ray_supscene.gather import agreed, averaged, rank, workers
from crater_ray_supscene.losses.objective import Objective, Terms
from crater_ray_supscene.sampling import Sampler, Sampling
from crater_ray_supscene.training import checkpoint, held_out, record
from crater_ray_supscene.training.batch import Batch, Model
from crater_ray_supscene.training.device import computed_on
from crater_ray_supscene.training.export import export
from crater_ray_supscene.training.frozen_features import CachedFeatures, DecodedImages, shards
from crater_ray_supscene.training.job import TrainJob, TrainTable, job_of
from crater_ray_supscene.training.model import Descriptor, built, kept, unfused
from crater_ray_supscene.training.plan import TRAIN, TrainingPlan, read_plan
from crater_ray_supscene.training.prefetch import Prefetcher
from crater_ray_supscene.training.similarity_buffer import SimilarityBuffer

FIRST_RATE = 0.01  # of the learning rate, where the warm-up starts
CLUSTERS_FROM = 64  # images whose tokens initialise NetVLAD's clusters


def work(config: dict[str, Any]) -> None:
    """Runs on every worker of Ray Train, from the latest checkpoint to the last step.

    config: job (plain data), path of the job file, run, digest of the frozen part, plan, cached, threads.
    """
    job = job_of(config["job"], Path(config["path"]))
    torch.set_num_threads(config["threads"])
    if job.train.patch_keep_rate < 1 and not config["cached"]:
        raise ConfigError(
            "train.patch_keep_rate < 1 needs the cache of frozen features: free disk space, or set "
            "train.patch_keep_rate = 1.0"
        )
    plan = read_plan(job.out / "plan")
    device = _device(job)
    if device.type == "cuda":
        exact()
    model, store = _built(job, plan, config)
    if device.type == "cpu":
        unfused(model.descriptor)
    model.to(device)
    optimiser = torch.optim.AdamW(
        [weight for weight in model.parameters() if weight.requires_grad],
        lr=job.train.lr,
        weight_decay=job.train.weight_decay,
    )
    start, taught = _resumed(job, model, optimiser)
    descriptor: Any = model.descriptor
    if workers() > 1:
        descriptor = DistributedDataParallel(
            model.descriptor, find_unused_parameters=job.loss.vector == 0, broadcast_buffers=False
        )
    model.train()
    how = Sampling(positive=job.loss.positive, **job.sampling.model_dump())
    sampler = Sampler(plan.graph, plan.units(), how, job.train.seed)
    labels = torch.from_numpy(plan.labels()[0])

    def batch_of(step: int) -> Batch:
        if model.similarities is None:
            rows = sampler.batch(step)
        else:
            rows = agreed(sampler.batch(step, model.similarities.nearest), device)
        return Batch(plan, rows, labels, job, step, device, model.descriptor)

    if rank() == 0:
        what = computed_on(device, job.train.precision)
        record.append(job.out, {"step": start, "run": config["run"], "device": what})
    if start == 0:
        _measure(job, plan, model, store, 0)
    with Prefetcher(store, device) as load:
        ahead = load(batch_of(start)) if start < job.train.steps else None
        for step in range(start, job.train.steps):
            assert ahead is not None  # asked for one step before
            began = time.monotonic()
            loss = ahead.batch.loss(descriptor, model, ahead.coming.result())
            ahead = load(batch_of(step + 1)) if step + 1 < job.train.steps else None
            told: dict[str, Any] = {"skipped": "too few of its images can be used to teach anything"}
            if loss is not None:
                told = _learnt(job, step, model, optimiser, loss)
                taught += 1
            done = step + 1
            if rank() == 0:
                record.check_ours(job.out, config["run"])
                record.append(job.out, {"step": done, **told, "seconds": round(time.monotonic() - began, 3)})
            last = done == job.train.steps
            _measure(job, plan, model, store, done)
            if rank() == 0 and (last or done % job.train.save_every == 0):
                stands = {"plan": config["plan"], "taught": taught}
                checkpoint.save(job.out / "checkpoints", done, model, optimiser, stands)
                record.draw_curves(job.out)
    if rank() == 0 and taught:  # a model that nothing was taught is none
        export(job, model.descriptor, {"steps": job.train.steps, "plan": config["plan"]})
        record.draw_curves(job.out)
    if workers() > 1:
        dist.barrier()


def _learnt(
    job: TrainJob, step: int, model: Model, optimiser: torch.optim.Optimizer, loss: Tensor
) -> dict[str, float]:
    """One step of the optimiser; what the log says of it. Raises CraterRayError where it is no number."""
    for group in optimiser.param_groups:
        group["lr"] = rate(step, job.train)
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    averaged(model.objective.parameters())
    free = [weight for weight in model.parameters() if weight.requires_grad]
    norm = nn.utils.clip_grad_norm_(free, job.train.clip)
    found, length = loss.item(), norm.item()
    if not math.isfinite(found) or not math.isfinite(length):
        raise CraterRayError(
            f"step {step + 1}: the loss is {found} and its gradient {length}; lower train.lr, or set "
            "train.precision = 'fp32'"
        )
    optimiser.step()
    return {"loss": found, "lr": rate(step, job.train), "norm": length}


def rate(step: int, train: TrainTable) -> float:
    """The learning rate of a step, from 0: a linear warm-up, then a cosine down to `last_lr`."""
    first = math.ceil(train.warmup * train.steps)
    if step < first:
        return train.lr * (FIRST_RATE + (1 - FIRST_RATE) * (step + 1) / first)
    through = (step - first) / max(1, train.steps - first)
    return train.last_lr + (train.lr - train.last_lr) * (1 + math.cos(math.pi * through)) / 2


def _built(job: TrainJob, plan: TrainingPlan, config: dict[str, Any]) -> tuple[Model, Any]:
    """The model and where its inputs come from; NetVLAD's clusters initialised, the same on every worker."""
    descriptor = built(job, tail=config["cached"])
    train = job.train
    if config["cached"]:
        keep = kept(train.blocks)
        store: Any = CachedFeatures(shards(plan, job.cache, config["digest"], keep, train.precision))
    else:
        store = DecodedImages(plan, descriptor.backbone)
    if isinstance(descriptor.aggregator, Netvlad) and "path" not in job.aggregator.options:
        _initialise_clusters(descriptor, descriptor.aggregator, plan, store, train.seed)
    loss = job.loss
    terms = Terms(**loss.model_dump(exclude={"late_tokens"}))
    dim = descriptor.aggregator.dim if descriptor.head is None else int(train.project or 0)
    objective = Objective(terms, plan.labels()[1], dim, precision=train.precision)
    similarities = SimilarityBuffer(plan.units(), dim) if job.sampling.hard_negatives else None
    return Model(descriptor, objective, similarities), store


def _initialise_clusters(
    descriptor: Descriptor, netvlad: Netvlad, plan: TrainingPlan, store: Any, seed: int
) -> None:
    """Initialises NetVLAD's clusters from the tokens of usable images; leaves them where there is none."""
    order = np.random.default_rng(seed).permutation(plan.rows(TRAIN))
    found: list[Tensor] = []
    for first in range(0, len(order), CLUSTERS_FROM):
        inputs, usable = store.inputs(order[first : first + CLUSTERS_FROM].tolist())
        found += list(inputs[torch.tensor(usable)])
        if len(found) >= CLUSTERS_FROM:
            break
    if not found:
        return
    with torch.inference_mode():
        patches = descriptor.tokens(torch.stack(found[:CLUSTERS_FROM])).patches.flatten(0, 1).numpy()
    if len(patches) < len(netvlad.centres):
        raise ConfigError(
            f"[aggregator] clusters is {len(netvlad.centres)}, but the training images that can be used have "
            f"{len(patches)} tokens; use fewer clusters"
        )
    netvlad.initialise(patches, seed)


def _device(job: TrainJob) -> torch.device:
    if not job.cluster.gpus:
        return torch.device("cpu")
    from ray.train.torch import get_device

    device = get_device()
    return device if isinstance(device, torch.device) else device[0]


def _resumed(job: TrainJob, model: Model, optimiser: torch.optim.Optimizer) -> tuple[int, int]:
    """Steps done by an earlier run, whose log is rewound to there; and how many of them taught anything."""
    path = checkpoint.latest(job.out / "checkpoints")
    stands = {"step": 0, "taught": 0} if path is None else checkpoint.load(path, model, optimiser)
    start = int(stands["step"])
    if rank() == 0:
        record.rewind(job.out, start if start else -1)
    return start, int(stands["taught"])


def _measure(job: TrainJob, plan: TrainingPlan, model: Model, store: Any, step: int) -> None:
    if not held_out.wanted(job.held_out, step, job.train.steps):
        return
    found = held_out.measure(job, plan, model.descriptor, store)
    if rank() == 0:
        record.append(job.out, {"step": step, "held_out": found})
