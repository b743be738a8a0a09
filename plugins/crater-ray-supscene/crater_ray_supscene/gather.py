"""Every worker's rows side by side, with gradients that DDP's mean makes those of one worker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn


def workers() -> int:
    """How many processes train together; 1 outside a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is."""
    return dist.get_rank() if workers() > 1 else 0


def gathered(rows: Tensor) -> Tensor:
    """(W n, …) of each worker's (n, …), in order of rank; the same everywhere.

    Each worker computes the whole batch's loss, so its gradient towards its own rows is complete; DDP then
    divides the sum over workers by W, which the factor W in backward makes good.
    """
    if workers() == 1:
        return rows
    result: Tensor = _Gather.apply(rows)
    return result


def agreed(rows: NDArray[np.int64], device: torch.device) -> NDArray[np.int64]:
    """What the first worker drew, on every worker: each then has its share of one and the same batch.

    A draw that depends on computed vectors may differ between workers: a GPU's sums differ in their last bit.
    device: of the worker's model, which the group's messages go through.
    """
    if workers() == 1:
        return rows
    sent = torch.tensor(rows, device=device)  # a copy, which the broadcast overwrites
    dist.broadcast(sent, 0)
    found: NDArray[np.int64] = sent.cpu().numpy()
    return found


def averaged(weights: Iterable[nn.Parameter]) -> None:
    """Gives weights that DDP does not look after, and that every worker computes whole, one gradient."""
    if workers() == 1:
        return
    for weight in weights:
        if weight.grad is not None:
            dist.all_reduce(weight.grad)
            weight.grad /= workers()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.count = len(rows)
        parts = [torch.empty_like(rows) for _ in range(workers())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        first = rank() * ctx.count
        return gradients[0][first : first + ctx.count] * workers()
