"""One worker of a run: steps, checkpoints, held-out numbers. Every draw is of the seed and the step."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from crater_ray.errors import ConfigError
from crater_ray_supscene.aggregators.netvlad import Netvlad
from crater_ray_supscene.gather import gathered, rank, workers
from crater_ray_supscene.losses.objective import Objective, Terms
from crater_ray_supscene.sampling import Sampler, Sampling
from crater_ray_supscene.training import checkpoint, held_out, record
from crater_ray_supscene.training.export import export
from crater_ray_supscene.training.job import TrainJob, TrainTable, job_of
from crater_ray_supscene.training.lately import Lately
from crater_ray_supscene.training.model import Descriptor, built, kept, unfused
from crater_ray_supscene.training.plan import TRAIN, Plan, read_plan
from crater_ray_supscene.training.trunk import Cached, Fresh, shards

FIRST_RATE = 0.01  # of the learning rate, where the warm-up starts
WORDS_FROM = 64  # images whose tokens NetVLAD's words start from


class Model(nn.Module):
    """Descriptor, objective and what was lately seen as one, so that a checkpoint holds them."""

    def __init__(self, descriptor: Descriptor, objective: Objective, lately: Lately | None) -> None:
        super().__init__()
        self.descriptor, self.objective, self.lately = descriptor, objective, lately


def work(config: dict[str, Any]) -> None:
    """Runs on every worker of Ray Train, from the latest checkpoint to the last step.

    config: job (plain data), path of the job file, run, digest of the trunk, plan, cached, threads.
    """
    job = job_of(config["job"], Path(config["path"]))
    torch.set_num_threads(config["threads"])
    if job.train.keep < 1 and not config["cached"]:
        raise ConfigError(
            "train.keep < 1 needs the trunk's output on disk: make room, or set train.keep = 1.0"
        )
    plan = read_plan(job.out / "plan")
    device = _device(job)
    model, store = _built(job, plan, config)
    if device.type == "cpu":
        unfused(model.descriptor)
    model.to(device)
    optimiser = torch.optim.AdamW(
        [weight for weight in model.parameters() if weight.requires_grad],
        lr=job.train.lr,
        weight_decay=job.train.weight_decay,
    )
    start = _resumed(job, model, optimiser)
    descriptor: Any = model.descriptor
    if workers() > 1:
        descriptor = DistributedDataParallel(
            model.descriptor, find_unused_parameters=job.loss.vector == 0, broadcast_buffers=False
        )
    model.train()
    how = Sampling(positive=job.loss.positive, **job.sampling.model_dump())
    sampler = Sampler(plan.graph, plan.units(), how, job.train.seed)
    labels = torch.from_numpy(plan.labels()[0])
    if start == 0:
        _measure(job, plan, model, store, 0)
    for step in range(start, job.train.steps):
        began = time.monotonic()
        for group in optimiser.param_groups:
            group["lr"] = rate(step, job.train)
        rows = sampler.batch(step, model.lately.likest if model.lately else None)
        batch = Batch(plan, rows, labels, job, step, device, model.descriptor)
        loss = batch.loss(descriptor, model, store)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        free = [weight for weight in model.parameters() if weight.requires_grad]
        norm = nn.utils.clip_grad_norm_(free, job.train.clip)
        optimiser.step()
        done = step + 1
        if rank() == 0:
            record.check_ours(job.out, config["run"])
            told = {"step": done, "loss": loss.item(), "lr": rate(step, job.train), "norm": norm.item()}
            record.append(job.out, {**told, "seconds": round(time.monotonic() - began, 3)})
        last = done == job.train.steps
        _measure(job, plan, model, store, done)
        if rank() == 0 and (last or done % job.train.save_every == 0):
            checkpoint.save(job.out / "checkpoints", done, model, optimiser, {"plan": config["plan"]})
            record.draw_curves(job.out)
    if rank() == 0:
        export(job, model.descriptor, {"steps": job.train.steps, "plan": config["plan"]})
        record.draw_curves(job.out)
    if workers() > 1:
        dist.barrier()


def rate(step: int, train: TrainTable) -> float:
    """The learning rate of a step, from 0: a linear warm-up, then a cosine down to `last_lr`."""
    first = math.ceil(train.warmup * train.steps)
    if step < first:
        return train.lr * (FIRST_RATE + (1 - FIRST_RATE) * (step + 1) / first)
    through = (step - first) / max(1, train.steps - first)
    return train.last_lr + (train.lr - train.last_lr) * (1 + math.cos(math.pi * through)) / 2


class Batch:
    """The images of one step: all of them by row, and this worker's share."""

    def __init__(
        self,
        plan: Plan,
        rows: Any,
        labels: Tensor,
        job: TrainJob,
        step: int,
        device: torch.device,
        descriptor: Descriptor,
    ) -> None:
        """rows (subgraphs, nodes) of the plan, -1 is padding; workers take whole subgraphs by rank."""
        flat = rows.reshape(-1)
        count = len(flat) // workers()
        self.share = slice(rank() * count, (rank() + 1) * count)
        self.real, self.rows = flat >= 0, np.maximum(flat, 0)
        overlap = plan.graph.block(self.rows)
        same = self.rows[:, None] == self.rows[None]  # an image and itself, drawn once or twice
        self.overlap = torch.from_numpy(overlap).to(device)
        self.known = torch.from_numpy(~same & ~plan.graph.unknown_block(self.rows)).to(device)
        self.labels = labels[torch.from_numpy(self.rows)].to(device)
        self.device = device
        self.picks: Tensor | None = None
        self.kept: Tensor | None = None
        if job.train.keep < 1 and step < round(job.train.steps * (1 - job.train.whole)):
            total, prefix = descriptor.backbone.shape.tokens, int(descriptor.backbone.model.num_prefix_tokens)
            order = drawn(len(flat), total, math.ceil(job.train.keep * total), (job.train.seed, 4, step))
            self.kept, self.prefix = torch.from_numpy(order[self.share]), prefix
        if job.loss.late:
            total = self.kept.shape[1] if self.kept is not None else descriptor.backbone.shape.tokens
            order = drawn(len(flat), total, job.loss.late_tokens, (job.train.seed, 3, step))
            self.picks = torch.from_numpy(order[self.share]).to(device)

    def loss(self, descriptor: Any, model: Model, store: Any) -> Tensor:
        """Of the whole batch, the same on every worker; `descriptor` is the model's, as it is distributed."""
        inputs, usable = store.inputs(self.rows[self.share].tolist())
        if self.kept is not None:
            inputs = thinned(inputs, self.kept, self.prefix)
        present = torch.tensor(usable) & torch.from_numpy(self.real[self.share])
        run = present.clone()
        if not run.any():
            run[0] = True  # a worker without an image still takes part in what the others gather
        at = torch.nonzero(run)[:, 0].to(self.device)
        picks = None if self.picks is None else self.picks[at]
        vectors, tokens = descriptor(inputs[run].to(self.device), picks)
        every = gathered(_spread(vectors, at, len(present)))
        some = None if tokens is None else gathered(_spread(tokens, at, len(present)))
        there = gathered(present.to(self.device, torch.uint8)).bool()
        if model.lately is not None:
            model.lately.see(torch.from_numpy(self.rows).to(self.device), there, every)
        ignored = ~(self.known & there[:, None] & there[None])
        loss: Tensor = model.objective(every, some, self.overlap, ignored, self.labels)
        return loss


def drawn(rows: int, total: int, count: int, seed: tuple[int, ...]) -> NDArray[np.int64]:
    """(rows, count) different numbers below `total` in each row; fewer where there are fewer."""
    return np.random.default_rng(seed).random((rows, total)).argsort(1)[:, : min(count, total)]


def thinned(hidden: Tensor, kept: Tensor, prefix: int) -> Tensor:
    """(n, prefix + m, D): the prefix and the patch tokens kept, of hidden (n, prefix + T, D); kept (n, m).

    A block's cost is per token and its attention's per pair, and half of the tokens teach nearly as much
    (PatchDropout, Liu et al. 2022).
    """
    index = kept[:, :, None].expand(-1, -1, hidden.shape[2])
    return torch.cat([hidden[:, :prefix], hidden[:, prefix:].gather(1, index)], 1)


def _spread(rows: Tensor, at: Tensor, count: int) -> Tensor:
    """(count, …) zeros but for the rows given, so that every worker gathers as many."""
    return rows.new_zeros(count, *rows.shape[1:]).index_copy(0, at, rows)


def _built(job: TrainJob, plan: Plan, config: dict[str, Any]) -> tuple[Model, Any]:
    """The model and where its inputs come from; NetVLAD's words started, alike on every worker."""
    descriptor = built(job, tail=config["cached"])
    train = job.train
    if config["cached"]:
        keep = kept(train.blocks)
        store: Any = Cached(shards(plan, job.cache, config["digest"], keep, train.precision))
    else:
        store = Fresh(plan, descriptor.backbone)
    if isinstance(descriptor.aggregator, Netvlad) and "path" not in job.aggregator.options:
        rows = plan.rows(TRAIN)
        chosen = np.random.default_rng(train.seed).permutation(rows)[:WORDS_FROM]
        with torch.inference_mode():
            patches = descriptor.tokens(store.inputs(chosen.tolist())[0]).patches
        descriptor.aggregator.initialise(patches.flatten(0, 1).numpy(), train.seed)
    loss = job.loss
    terms = Terms(**loss.model_dump(exclude={"late_tokens"}))
    dim = descriptor.aggregator.dim if descriptor.head is None else int(train.project or 0)
    objective = Objective(terms, plan.labels()[1], dim, precision=train.precision)
    lately = Lately(plan.units(), dim) if job.sampling.alike > 1 else None
    return Model(descriptor, objective, lately), store


def _device(job: TrainJob) -> torch.device:
    if not job.cluster.gpus_per_worker:
        return torch.device("cpu")
    from ray.train.torch import get_device

    device = get_device()
    return device if isinstance(device, torch.device) else device[0]


def _resumed(job: TrainJob, model: Model, optimiser: torch.optim.Optimizer) -> int:
    """Steps done by an earlier run, whose log is rewound to there."""
    path = checkpoint.latest(job.out / "checkpoints")
    start = 0 if path is None else checkpoint.load(path, model, optimiser)
    if rank() == 0:
        record.rewind(job.out, start if start else -1)
    return start


def _measure(job: TrainJob, plan: Plan, model: Model, store: Any, step: int) -> None:
    if not held_out.wanted(job.held_out, step, job.train.steps):
        return
    found = held_out.measure(job, plan, model.descriptor, store)
    if rank() == 0:
        record.append(job.out, {"step": step, "held_out": found})
