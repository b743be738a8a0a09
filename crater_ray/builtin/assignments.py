"""What becomes of the tokens that are not seeds: four ways from K seeds to K instance tokens.

A token's nearest seed is the one of highest cosine, of equals the first. A seed that gathers nothing stays
exactly itself, so with every patch a seed all four give exactly the tokens. Patches of zeros are not present:
they join no seed, and a seed that is one gathers nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from crater_ray.builtin import Assign

# unit patches (N, T, D) or zeros, seeds (N, K) int64, temperature (of `soft`) -> (N, K, D) float32, unit rows
Assignment = Callable[[Tensor, Tensor, float], Tensor]


def none(patches: Tensor, located: Tensor, temperature: float) -> Tensor:
    """The seeds alone."""
    return picked(patches, located)


def mean(patches: Tensor, located: Tensor, temperature: float) -> Tensor:
    """The mean of each cluster, its seed one member among the others."""
    seeds = picked(patches, located)
    weights = _nearest(patches, seeds, located)
    return _joined(seeds, weights.transpose(1, 2) @ patches, weights)


def residual(patches: Tensor, located: Tensor, temperature: float) -> Tensor:
    """l2(t_seed + mean of the other tokens of its cluster): CraterBench-R, steps 2 and 3."""
    seeds = picked(patches, located)
    return _residual(patches, seeds, _nearest(patches, seeds, located))


def soft(patches: Tensor, located: Tensor, temperature: float) -> Tensor:
    """As `residual`, each token shared among all seeds by the softmax of cosine / temperature.

    A seed with less than one token's weight in all adds that share only; as the temperature falls to 0 this
    becomes `residual`.
    """
    seeds = picked(patches, located)
    shares = (_cosines(patches, seeds) / temperature).softmax(2)
    return _residual(patches, seeds, _of_others(shares, patches, located))


ASSIGNMENTS: Final[dict[Assign, Assignment]] = {
    "none": none,
    "mean": mean,
    "residual": residual,
    "soft": soft,
}


def picked(patches: Tensor, located: Tensor) -> Tensor:
    """(N, K, D) the patches at (N, K)."""
    return patches.gather(1, located[:, :, None].expand(-1, -1, patches.shape[2]))


def _nearest(patches: Tensor, seeds: Tensor, located: Tensor) -> Tensor:
    """(N, T, K) float, one where seed k is nearest to the token t; seeds belong to no cluster."""
    nearest = _cosines(patches, seeds).argmax(2, keepdim=True)
    weights = torch.zeros(*patches.shape[:2], located.shape[1], device=patches.device)
    return _of_others(weights.scatter_(2, nearest, 1.0), patches, located)


def _cosines(patches: Tensor, seeds: Tensor) -> Tensor:
    """(N, T, K), the least there is with a seed that is not present."""
    cosines = patches @ seeds.transpose(1, 2)
    return cosines.masked_fill(~(seeds != 0).any(2)[:, None], torch.finfo(cosines.dtype).min)


def _of_others(weights: Tensor, patches: Tensor, located: Tensor) -> Tensor:
    """Weights (N, T, K) without those of the seeds themselves and of patches that are not present."""
    others = weights.scatter(1, located[:, :, None].expand(-1, -1, located.shape[1]), 0.0)
    return others * (patches != 0).any(2, keepdim=True)


def _residual(patches: Tensor, seeds: Tensor, weights: Tensor) -> Tensor:
    # a product, since scatter-adds differ from run to run on a GPU
    gathered = weights.transpose(1, 2) @ patches
    return _joined(seeds, gathered / weights.sum(1)[:, :, None].clamp(min=1.0), weights)


def _joined(seeds: Tensor, gathered: Tensor, weights: Tensor) -> Tensor:
    """Unit sums; where nothing was gathered the seed as it is, to the last bit."""
    return torch.where((weights.sum(1) > 0)[:, :, None], normalize(seeds + gathered, dim=-1), seeds)
