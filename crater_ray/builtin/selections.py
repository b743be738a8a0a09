"""K vectors an image: all patch tokens, or K seeds, alone or with their kin."""

from __future__ import annotations

import torch
from torch import Tensor

from crater_ray.builtin import Assign, Heads, Seeds
from crater_ray.builtin.assignments import ASSIGNMENTS, picked
from crater_ray.builtin.patches import unit
from crater_ray.builtin.seeds import NEED_ATTENTION, SEEDS, present_first
from crater_ray.errors import ConfigError
from crater_ray.types import Side, Tokens, TokenShape


class All:
    """Every patch token, in the grid's row order."""

    def __init__(self, shape: TokenShape) -> None:
        self.k = shape.tokens
        self.dim = shape.dim

    def __call__(self, tokens: Tokens, side: Side) -> Tensor:
        """(N, T, dim) float32, unit rows, zeros where a patch is not present."""
        return unit(tokens)

    def locate(self, tokens: Tokens, side: Side) -> Tensor:
        """(N, T) int64: each token stands for its own patch."""
        return _every(tokens)


class TopK:
    """K patch tokens, chosen as `seeds` says (crater_ray.builtin.seeds); `query_k` of a query's.

    Raises ConfigError for K > T or seeds that need attention of a backbone without it.
    """

    def __init__(
        self,
        shape: TokenShape,
        k: int = 64,
        heads: Heads = "mean",
        seeds: Seeds = "attention",
        query_k: int | None = None,
        draw: int = 0,
    ) -> None:
        for name, count in (("k", k), ("query_k", query_k or 0)):
            if count > shape.tokens:
                raise ConfigError(
                    f"{name} is {count}, but the backbone gives {shape.tokens} tokens an image; "
                    f"use {shape.tokens} or less"
                )
        if shape.heads == 0 and seeds in NEED_ATTENTION:
            raise ConfigError(
                f"seeds = {seeds!r} are chosen by class-to-patch attention, but the backbone gives none; "
                "use a ViT with a class token, seeds = 'farthest', or the aggregator all"
            )
        self.k = k
        self.query_k = query_k or k
        self.dim = shape.dim
        self._chosen_by = SEEDS[seeds]
        self._heads = heads
        self._draw = draw

    def __call__(self, tokens: Tokens, side: Side) -> Tensor:
        """(N, k, dim) float32, unit rows, zeros where an image has fewer patches that are present."""
        return picked(unit(tokens), self.locate(tokens, side))

    def locate(self, tokens: Tokens, side: Side) -> Tensor:
        """(N, k) int64, the patches chosen; all T of them in row order, so that k = T equals All exactly.

        A patch that is not present is chosen after all that are.
        """
        k = self.k if side == "gallery" else self.query_k
        if k == tokens.patches.shape[1]:
            return _every(tokens)
        return present_first(self._chosen_by(tokens, k, self._heads, self._draw), tokens.present)


class InstanceTokens(TopK):
    """K seeds, each with the tokens nearest to it (CraterBench-R, steps 1 to 3), joined as `assign` says."""

    def __init__(
        self,
        shape: TokenShape,
        k: int = 64,
        heads: Heads = "mean",
        seeds: Seeds = "attention",
        query_k: int | None = None,
        draw: int = 0,
        assign: Assign = "residual",
        temperature: float = 0.02,
    ) -> None:
        super().__init__(shape, k, heads, seeds, query_k, draw)
        self._join = ASSIGNMENTS[assign]
        self._temperature = temperature

    def __call__(self, tokens: Tokens, side: Side) -> Tensor:
        """(N, k, dim) float32, unit rows, in the order of the seeds; zeros where a seed is not present."""
        return self._join(unit(tokens), self.locate(tokens, side), self._temperature)


def _every(tokens: Tokens) -> Tensor:
    count, total = tokens.patches.shape[:2]
    return torch.arange(total, device=tokens.patches.device).expand(count, total)
