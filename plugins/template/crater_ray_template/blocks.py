"""An aggregator: Tokens to k unit vectors an image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from crater_ray.errors import ConfigError
from crater_ray.types import Side, Tokens, TokenShape


class Blocks:
    """The mean token of each of side x side blocks of the image; works with any backbone."""

    def __init__(self, shape: TokenShape, side: int) -> None:
        if side > min(shape.grid):
            raise ConfigError(f"template_blocks: side {side} is more than the tokens' grid {shape.grid} has")
        self.side, self.dim, self.k = side, shape.dim, side * side

    def __call__(self, tokens: Tokens, side: Side) -> Tensor:
        """(N, k, dim) float32, unit rows; the same on both sides."""
        images, _, dim = tokens.patches.shape
        planes = tokens.patches.float().transpose(1, 2).reshape(images, dim, *tokens.grid)
        blocks = adaptive_avg_pool2d(planes, self.side)
        return normalize(blocks.flatten(2).transpose(1, 2), dim=-1)

    def locate(self, tokens: Tokens, side: Side) -> Tensor:
        """(N, k) int64, the token in the middle of each block. Optional: with it, matches can be drawn."""
        halves = torch.arange(self.side) * 2 + 1
        rows, columns = (halves * length // (2 * self.side) for length in tokens.grid)
        middle = (rows[:, None] * tokens.grid[1] + columns).reshape(-1)
        return middle.expand(len(tokens.patches), -1).to(tokens.patches.device)
