"""What a model is worth on images not trained on: self-retrieval in scenes, queries in a gallery."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from crater_ray.evaluation import metrics
from crater_ray.precision import in_bfloat16
from crater_ray_supscene.gather import rank, workers
from crater_ray_supscene.training.job import HeldOutTable, TrainJob
from crater_ray_supscene.training.model import Descriptor
from crater_ray_supscene.training.plan import GALLERY, HELD, QUERY, Integers, TrainingPlan
from crater_ray_supscene.training.self_matches import self_matches

BATCH, QUERIES = 32, 8  # images described, and queries scored, at a time
PRODUCTS = 2**27  # of tokens, at a time
Scored = Callable[[Integers, Integers], dict[str, NDArray[np.float32]]]  # of queries and a gallery


def measure(job: TrainJob, plan: TrainingPlan, descriptor: Descriptor, store: Any) -> dict[str, float]:
    """Numbers by name, on rank 0; {} on the others, which describe their share.

    The vectors are those that an index would have, without the head.
    """
    held = [role for role in plan.roles() if role in (HELD, GALLERY) or role.startswith(QUERY)]
    if not held:
        return {}
    rows = np.sort(np.concatenate([plan.rows(role) for role in held]))
    vectors, tokens, usable = _described(descriptor, store, rows, job.held_out.tokens)
    if rank():
        return {}
    at = np.full(len(plan), -1, np.int64)
    at[rows[usable]] = np.flatnonzero(usable)

    def of(role: str) -> tuple[Integers, Integers]:
        there = plan.rows(role)
        there = there[at[there] >= 0]
        return there, at[there]

    found: dict[str, float] = {}
    scores = partial(_scores, vectors, tokens, next(descriptor.parameters()).device)
    if HELD in held:
        found |= _scenes(plan, *of(HELD), scores, job)
    gallery = of(GALLERY)
    for role in held:
        if role.startswith(QUERY):
            found |= _queries(plan, role.removeprefix(QUERY), of(role), gallery, scores)
    return found


def _described(
    descriptor: Descriptor, store: Any, rows: Integers, count: int
) -> tuple[Tensor, Tensor | None, NDArray[np.bool_]]:
    """Of all rows: vectors (n, d), tokens (n, t, D) or None, and which are usable; each worker a share."""
    device = next(descriptor.parameters()).device
    mine = rows[rank() :: workers()]
    length = -(-len(rows) // workers())  # of the longest share: the shorter are padded
    training = descriptor.training
    descriptor.eval()
    parts: list[tuple[Tensor, Tensor | None, Tensor]] = []
    padded = np.concatenate([mine, np.repeat(rows[:1], length - len(mine))])
    picks: Tensor | None = None
    with torch.inference_mode():
        for first in range(0, length, BATCH):
            inputs, usable = store.inputs(padded[first : first + BATCH].tolist())
            if count and picks is None:
                total = descriptor.backbone.shape.tokens
                picks = torch.linspace(0, total - 1, min(count, total)).round().long().to(device)
            each = None if picks is None else picks.expand(len(inputs), -1)
            vectors, tokens = descriptor.described(inputs.to(device), each)
            parts.append((vectors, None if tokens is None else tokens.half(), torch.tensor(usable)))
    descriptor.train(training)
    vectors = _interleaved(torch.cat([part[0] for part in parts]))[: len(rows)]
    every = None
    if count:
        every = _interleaved(torch.cat([part[1] for part in parts if part[1] is not None]))[: len(rows)]
    good = _interleaved(torch.cat([part[2] for part in parts]).to(device))[: len(rows)]
    return vectors.cpu(), None if every is None else every.cpu(), good.cpu().numpy().astype(bool)


def _interleaved(share: Tensor) -> Tensor:
    """Every worker's rows, in the order that they were dealt out in."""
    if workers() == 1:
        return share
    sent = share.to(torch.uint8) if share.dtype == torch.bool else share
    parts = [torch.empty_like(sent) for _ in range(workers())]
    dist.all_gather(parts, sent.contiguous())
    return torch.stack(parts, 1).flatten(0, 1)


def _scenes(
    plan: TrainingPlan, rows: Integers, at: Integers, scored: Scored, job: TrainJob
) -> dict[str, float]:
    """Every image asks for the others of all scenes."""
    gains = plan.graph.block(rows)
    excluded = plan.graph.unknown_block(rows)
    np.fill_diagonal(excluded, True)
    gains[excluded] = 0
    found: dict[str, float] = {}
    for kind, scores in scored(at, at).items():
        order = metrics.ranking(scores, excluded)
        told = metrics.overlap_summary(order, gains, job.loss.positive, job.held_out.cuts)
        found |= {f"scenes{kind} {name}": value for name, value in told.items()}
    return found


def _queries(
    plan: TrainingPlan,
    name: str,
    queries: tuple[Integers, Integers],
    gallery: tuple[Integers, Integers],
    scored: Scored,
) -> dict[str, float]:
    """Queries ask a gallery for the groups that they name, or their own, but never for themselves.

    Without a right answer: nothing.
    """
    every = scored(queries[1], gallery[1])
    excluded = self_matches(plan, queries[0], gallery[0], every[""])
    relevant = plan.relevant(queries[0], gallery[0]) & ~excluded
    counted = relevant.any(1)
    found: dict[str, float] = {}
    if not counted.any():  # every image that it could be is bad
        return found
    for kind, scores in every.items():
        order = metrics.ranking(scores, excluded)
        average = metrics.map_at(order, relevant, order.shape[1], "P")[counted]
        first = relevant[np.arange(len(order)), order[:, 0]][counted]
        found |= {f"{name}{kind} mAP": float(average.mean()), f"{name}{kind} hit@1": float(first.mean())}
    return found


def _scores(
    vectors: Tensor, tokens: Tensor | None, device: torch.device, queries: Integers, gallery: Integers
) -> dict[str, NDArray[np.float32]]:
    """(B, N) scores by what they compare: one vector, and late interaction over the tokens kept."""
    asked, there = vectors[queries].to(device), vectors[gallery].to(device)
    found = {"": (asked @ there.t()).cpu().numpy()}
    if tokens is not None:
        found[" late"] = late_scores(tokens[queries], tokens[gallery], device)
    return found


def late_scores(queries: Tensor, gallery: Tensor, device: torch.device | None = None) -> NDArray[np.float32]:
    """(B, N) mean over a query's tokens of the best cosine; queries (B, t, D), gallery (N, t, D).

    Both lie in this machine's memory; what is multiplied goes to the device, a bounded part at a time.
    """
    device = device or torch.device("cpu")
    kind = torch.bfloat16 if in_bfloat16("bf16", device.type) else torch.float32
    images = max(1, PRODUCTS // (QUERIES * queries.shape[1] * gallery.shape[1]))
    columns = []
    for part in torch.split(gallery, images):
        there = part.to(device, kind)
        rows = [best_cosines(some.to(device, kind), there).cpu() for some in torch.split(queries, QUERIES)]
        columns.append(torch.cat(rows))
    return torch.cat(columns, 1).numpy()


def best_cosines(queries: Tensor, gallery: Tensor) -> Tensor:
    """(B, N) float32, where the two are: queries (B, t, D), gallery (N, t, D), unit rows."""
    count, each, dim = gallery.shape
    products = queries.reshape(-1, dim) @ gallery.reshape(-1, dim).t()
    return products.reshape(len(queries), -1, count, each).amax(3).float().mean(1)


def wanted(table: HeldOutTable, done: int, steps: int) -> bool:
    """Whether it is measured after `done` of `steps`: at multiples of `every`, and after the last."""
    if not table.every or not (table.scenes or table.gallery):
        return False
    return done == steps or (done % table.every == 0 and table.every < steps)
