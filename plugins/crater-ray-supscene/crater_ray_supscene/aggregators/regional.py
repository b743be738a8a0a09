"""Poolings published for the feature maps of CNNs, with nothing to learn: R-MAC, SPoC and CroW.

Such features are not negative, those of a ViT are signed. R-MAC and SPoC take them as they are, CroW takes
what is above zero. The PCA whitening that the papers add is left out here.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from crater_ray.types import Side, Tokens, TokenShape
from crater_ray_supscene.aggregators.validity import patches_of

OVERLAP = 0.4  # of two regions side by side at the first level, as near as whole regions allow
TINY = 1e-6


class _Pooling:
    k = 1

    def __init__(self, shape: TokenShape) -> None:
        self.dim = shape.dim
        self.grid = shape.grid

    def __call__(self, tokens: Tokens, side: Side = "gallery") -> Tensor:
        """(N, 1, dim) float32, unit rows; zeros for an image without a token."""
        return normalize(self._pooled(patches_of(tokens), tokens.present), dim=1)[:, None]

    def _pooled(self, patches: Tensor, present: Tensor) -> Tensor:
        """(N, dim) of patches (N, T, dim), zeros where `present` (N, T) is not."""
        raise NotImplementedError


class RMac(_Pooling):
    """The unit maxima of square regions at several scales, summed (Tolias, Sicre and Jégou 2016, Sec. 3.2).

    Level l has regions of 2 min(H, W) / (l + 1) patches a side, l along the shorter side.
    """

    def __init__(self, shape: TokenShape, levels: int = 3) -> None:
        super().__init__(shape)
        self.regions = regions(*shape.grid, levels)

    def _pooled(self, patches: Tensor, present: Tensor) -> Tensor:
        rows, columns = self.grid
        grid = patches.reshape(-1, rows, columns, self.dim)
        there = present.reshape(-1, rows, columns)
        total = torch.zeros(len(grid), self.dim, device=grid.device)
        for top, left, size in self.regions:
            here = there[:, top : top + size, left : left + size].flatten(1)
            region = grid[:, top : top + size, left : left + size].flatten(1, 2)
            largest = region.masked_fill(~here[:, :, None], -torch.inf).amax(1)
            total += normalize(largest.masked_fill(~here.any(1, keepdim=True), 0.0), dim=1)
        return total


class Spoc(_Pooling):
    """The sum of the patches; with `prior` the middle weighs more (Babenko and Lempitsky 2015, Eq. 3).

    The prior's standard deviation is a third of the way from the middle to the nearest edge.
    """

    def __init__(self, shape: TokenShape, prior: bool = True) -> None:
        super().__init__(shape)
        rows, columns = shape.grid
        y, x = torch.arange(rows) + 0.5 - rows / 2, torch.arange(columns) + 0.5 - columns / 2
        away = y[:, None] ** 2 + x[None, :] ** 2
        spread = min(rows, columns) / 6
        self.weights = torch.exp(-away / (2 * spread**2)).flatten() if prior else torch.ones(rows * columns)

    def _pooled(self, patches: Tensor, present: Tensor) -> Tensor:
        return (patches * self.weights.to(patches.device)[:, None]).sum(1)


class Crow(_Pooling):
    """Patches weighted by how much they hold, channels by how rarely (Kalantidis, Mellina and Osindero 2016).

    Spatial weights (S / |S|_2)^(1/2) of each patch's sum over channels, channel weights
    log(sum Q / Q) of the share Q of patches where a channel is above zero.
    """

    def _pooled(self, patches: Tensor, present: Tensor) -> Tensor:
        above = patches.clamp(min=0.0)
        held = above.sum(2)
        spatial = (held / held.norm(dim=1, keepdim=True).clamp(min=TINY)).sqrt()
        count = present.sum(1, keepdim=True).clamp(min=1)
        share = (above > 0).sum(1) / count
        rare = torch.log((share.sum(1, keepdim=True) + TINY) / (share + TINY))
        pooled: Tensor = (above * spatial[:, :, None]).sum(1) * rare
        return pooled


def regions(rows: int, columns: int, levels: int) -> list[tuple[int, int, int]]:
    """(top, left, size) of R-MAC's regions of a grid, level by level."""
    short, long = sorted((rows, columns))
    more = (
        0 if short == long else min(range(1, 7), key=lambda m: abs(1 - (long - short) / m / short - OVERLAP))
    )
    found = []
    for level in range(1, levels + 1):
        size = max(1, 2 * short // (level + 1))
        tops, lefts = (
            _starts(length, size, level + (more if length == long else 0)) for length in (rows, columns)
        )
        found += [(top, left, size) for top in tops for left in lefts]
    return found


def _starts(length: int, size: int, count: int) -> list[int]:
    """Where `count` regions start, evenly spaced from one end to the other."""
    if count == 1:
        return [(length - size) // 2]
    return [place * (length - size) // (count - 1) for place in range(count)]
