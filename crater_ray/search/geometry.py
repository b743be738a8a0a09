"""Which matches of two images agree on one shift, turn and scale: a vote over the places of their tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor

STRONGEST = 24  # matches of an image that pairs are made of, each pair a similarity transform
NEAR = 1.5  # cells, how far a match may lie from where the transform puts it
BASE = 2.0  # cells between the two matches of a pair, at least
LARGEST = 3.0  # scale, up or down


def side_of(count: int) -> int:
    """Of the square grid of `count` tokens. Raises ValueError where they make no square."""
    side = math.isqrt(count)
    if side * side != count:
        raise ValueError(
            f"{count} tokens are no square grid, in which scoring 'consistent' finds their places"
        )
    return side


def agreeing(weights: Tensor, partner: Tensor, gallery: int) -> Tensor:
    """(n, Q) bool: of n images' matches, those that the best transform holds together.

    weights (n, Q) of each query token's match, 0 where it has none; partner (n, Q) int64, its gallery token,
    of `gallery` in all. Tokens stand row by row on square grids of cells. The best transform is the one whose
    matches weigh most. None agree where no two matches make a transform.
    """
    n, count = weights.shape
    here = _places(torch.arange(count), side_of(count))
    there = _places(partner, side_of(gallery))  # (n, Q)
    if count < 2:
        return torch.zeros(n, count, dtype=torch.bool)
    strongest = min(STRONGEST, count)
    order = weights.argsort(dim=1, descending=True, stable=True)[:, :strongest]
    first, second = torch.triu_indices(strongest, strongest, 1)
    one, two = order[:, first], order[:, second]  # (n, H)
    step, moved = here[two] - here[one], there.gather(1, two) - there.gather(1, one)
    turn = moved / torch.where(step == 0, 1, step)  # the scale and turn of a similarity, as a complex number
    size = turn.abs()
    usable = (weights.gather(1, two) > 0) & (weights.gather(1, one) > 0) & (step.abs() > BASE)
    usable &= (size > 1 / LARGEST) & (size < LARGEST)
    off = (
        turn[:, :, None] * (here - here[one][:, :, None]) + there.gather(1, one)[:, :, None] - there[:, None]
    )
    held = (off.abs() < NEAR * size.clamp(min=1)[:, :, None]) & (weights > 0)[:, None] & usable[:, :, None]
    total = (held * weights[:, None]).sum(2)  # (n, H)
    best = total.argmax(1)
    return held[torch.arange(n), best]


def _places(tokens: Tensor, side: int) -> Tensor:
    """Columns and rows as complex numbers, in cells."""
    return torch.complex((tokens % side).float(), (tokens // side).float())
