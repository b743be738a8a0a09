"""The images of one step: what a worker loads of them, and their loss over all workers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from crater_ray_supscene.aggregators.saved import seeded
from crater_ray_supscene.gather import gathered, rank, workers
from crater_ray_supscene.losses.objective import Objective
from crater_ray_supscene.training.job import TrainJob
from crater_ray_supscene.training.model import Descriptor
from crater_ray_supscene.training.plan import TrainingPlan
from crater_ray_supscene.training.similarity_buffer import SimilarityBuffer

LATE, KEPT, LAYERS = 3, 4, 7  # draws of a step are of (seed, one of these, step)


class Model(nn.Module):
    """Descriptor, objective and similarity buffer as one module, so that a checkpoint holds them."""

    def __init__(
        self, descriptor: Descriptor, objective: Objective, similarities: SimilarityBuffer | None
    ) -> None:
        super().__init__()
        self.descriptor, self.objective, self.similarities = descriptor, objective, similarities


@dataclass(frozen=True, slots=True)
class Inputs:
    """A worker's share, on the CPU: what the model takes (n, …), and which rows are images."""

    tensor: Tensor
    present: Tensor  # (n,) bool

    def pinned(self) -> Inputs:
        """The same in memory that a GPU copies from by itself."""
        return Inputs(self.tensor.pin_memory(), self.present)


class Batch:
    """The images of one step: all of them by row, and this worker's share."""

    def __init__(
        self,
        plan: TrainingPlan,
        rows: NDArray[np.int64],
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
        self.device, self.seed, self.step = device, job.train.seed, step
        self.picks: Tensor | None = None
        self.kept: Tensor | None = None
        rate = job.train.patch_keep_rate
        if rate < 1 and step < round(job.train.steps * (1 - job.train.full_token_share)):
            total, prefix = descriptor.backbone.shape.tokens, int(descriptor.backbone.model.num_prefix_tokens)
            order = drawn(len(flat), total, math.ceil(rate * total), (self.seed, KEPT, step))
            self.kept, self.prefix = torch.from_numpy(order[self.share]), prefix
        if job.loss.late:
            total = self.kept.shape[1] if self.kept is not None else descriptor.backbone.shape.tokens
            order = drawn(len(flat), total, job.loss.late_tokens, (self.seed, LATE, step))
            self.picks = torch.from_numpy(order[self.share]).to(device)

    def inputs(self, store: Any) -> Inputs:
        """This worker's share, loaded. Touches nothing of the model, so that another thread may do it."""
        tensor, usable = store.inputs(self.rows[self.share].tolist())
        if self.kept is not None:
            tensor = patch_dropout(tensor, self.kept, self.prefix)
        return Inputs(tensor, torch.tensor(usable) & torch.from_numpy(self.real[self.share]))

    def loss(self, descriptor: Any, model: Model, inputs: Inputs) -> Tensor | None:
        """Of the whole batch, the same on every worker; `descriptor` is the model's, as it is distributed.

        None, on every worker, where too few images can be used to teach anything.
        """
        present = inputs.present
        there = gathered(present.to(self.device, torch.uint8)).bool()
        ignored = ~(self.known & there[:, None] & there[None])
        if not model.objective.teaches(self.overlap, ignored, self.labels):
            return None
        run = present.clone()
        if not run.any():
            run[0] = True  # a worker without an image still takes part in what the others gather
        at = torch.nonzero(run)[:, 0].to(self.device)
        picks = None if self.picks is None else self.picks[at]
        images = inputs.tensor if bool(run.all()) else inputs.tensor[run]
        with seeded(self.seed, LAYERS, self.step, rank()):  # a layer that draws: dropout
            vectors, tokens = descriptor(images.to(self.device, non_blocking=True), picks)
        every = gathered(_spread(vectors, at, len(present)))
        some = None if tokens is None else gathered(_spread(tokens, at, len(present)))
        if model.similarities is not None:
            model.similarities.update(torch.from_numpy(self.rows).to(self.device), there, every)
        loss: Tensor = model.objective(every, some, self.overlap, ignored, self.labels)
        return loss


def drawn(rows: int, total: int, count: int, seed: tuple[int, ...]) -> NDArray[np.int64]:
    """(rows, count) different numbers below `total` in each row; fewer where there are fewer."""
    return np.random.default_rng(seed).random((rows, total)).argsort(1)[:, : min(count, total)]


def patch_dropout(hidden: Tensor, kept: Tensor, prefix: int) -> Tensor:
    """(n, prefix + m, D): the prefix and the patch tokens kept, of hidden (n, prefix + T, D); kept (n, m).

    PatchDropout (Liu et al. 2022): half of the tokens train nearly as well, at less than half the cost.
    """
    index = kept[:, :, None].expand(-1, -1, hidden.shape[2])
    return torch.cat([hidden[:, :prefix], hidden[:, prefix:].gather(1, index)], 1)


def _spread(rows: Tensor, at: Tensor, count: int) -> Tensor:
    """(count, …) zeros but for the rows given, so that every worker gathers as many."""
    return rows.new_zeros(count, *rows.shape[1:]).index_copy(0, at, rows)
