"""Every worker's rows side by side, with gradients that DDP's mean makes those of one worker."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


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
