"""K vectors an image: all patch tokens, or those of highest class attention, alone or with their kin."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from crater_ray.errors import ConfigError
from crater_ray.types import Side, Tokens, TokenShape

Heads = Literal["mean", "max"]


class All:
    """Every patch token, in the grid's row order."""

    def __init__(self, shape: TokenShape) -> None:
        self.k = shape.tokens
        self.dim = shape.dim

    def __call__(self, tokens: Tokens, side: Side) -> Tensor:
        """(N, T, dim) float32, unit rows."""
        return _unit(tokens)

    def locate(self, tokens: Tokens, side: Side) -> Tensor:
        """(N, T) int64: each token stands for its own patch."""
        count, total = tokens.patches.shape[:2]
        return torch.arange(total, device=tokens.patches.device).expand(count, total)


class TopK:
    """The K patch tokens of highest class attention, highest first.

    Raises ConfigError for K > T or a backbone without attention.
    """

    def __init__(self, shape: TokenShape, k: int = 64, heads: Heads = "mean") -> None:
        if k > shape.tokens:
            raise ConfigError(
                f"k is {k}, but the backbone gives {shape.tokens} tokens an image; use {shape.tokens} or less"
            )
        if shape.heads == 0:
            raise ConfigError(
                "seeds are chosen by class-to-patch attention, but the backbone gives none; "
                "use a ViT with a class token, or the aggregator all"
            )
        self.k = k
        self.dim = shape.dim
        self.heads = heads

    def __call__(self, tokens: Tokens, side: Side) -> Tensor:
        """(N, k, dim) float32, unit rows."""
        return _picked(_unit(tokens), self.locate(tokens, side))

    def locate(self, tokens: Tokens, side: Side) -> Tensor:
        """(N, k) int64, the patches of highest attention; of equals the first in row order."""
        if tokens.attention is None:
            raise ValueError("seeds need class-to-patch attention, but these Tokens have none")
        attention = tokens.attention.float()
        score = attention.mean(1) if self.heads == "mean" else attention.amax(1)
        # torch.topk breaks ties as it likes
        return score.sort(dim=-1, descending=True, stable=True).indices[:, : self.k]


class InstanceTokens(TopK):
    """K attention seeds, each with the mean of the tokens nearest to it (CraterBench-R, steps 1 to 3)."""

    def __call__(self, tokens: Tokens, side: Side) -> Tensor:
        """(N, k, dim) float32, unit rows, in the order of the seeds.

        z_k = l2(t_seed + mean of the non-seed tokens whose nearest seed is k); a seed nobody is nearest to
        stays itself, so k = T gives exactly the tokens.
        """
        located = self.locate(tokens, side)
        patches = _unit(tokens)
        seeds = _picked(patches, located)
        nearest = (patches @ seeds.transpose(1, 2)).argmax(2, keepdim=True)  # (N, T, 1)
        member = torch.zeros(*patches.shape[:2], self.k, device=patches.device).scatter_(2, nearest, 1.0)
        member.scatter_(1, located[:, :, None].expand(-1, -1, self.k), 0.0)  # seeds belong to no cluster
        size = member.sum(1)[:, :, None]  # (N, k, 1)
        # a product, since scatter-adds differ from run to run on a GPU
        gathered = member.transpose(1, 2) @ patches
        return torch.where(size > 0, normalize(seeds + gathered / size.clamp(min=1.0), dim=-1), seeds)


def _unit(tokens: Tokens) -> Tensor:
    """(N, T, D) float32 unit rows; a zero token stays zero."""
    return normalize(tokens.patches.float(), dim=-1)


def _picked(patches: Tensor, located: Tensor) -> Tensor:
    return patches.gather(1, located[:, :, None].expand(-1, -1, patches.shape[2]))
