"""Which matches of two images agree on one geometry: a vote over the places of their tokens.

Pairs of matches propose similarity transforms (shift, turn, scale). An affine map, which also follows slanted
views, is fitted to what the best one holds, and what lies near that map is counted.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

STRONGEST = 24  # matches of an image that pairs are made of, each pair a similarity transform
NEAR = 1.5  # cells, how far a match may lie from where the transform puts it
BASE = 2.0  # cells between the two matches of a pair, at least
LARGEST = 3.0  # scale, up or down
FITS = 2  # affine maps fitted, the second to what the first holds
NEAR_FIT = 2.5  # cells, how far a match may lie from where the affine map puts it
STRETCH = 5.0  # the map's larger and smaller scale, up or down; more is a chance fit
ROUND = 0.01  # determinant of the matches' spread over that of a disc: less is a line, which fixes no map


def side_of(count: int) -> int:
    """Of the square grid of `count` tokens. Raises ValueError where they make no square."""
    side = math.isqrt(count)
    if side * side != count:
        raise ValueError(
            f"{count} tokens are no square grid, in which scoring 'consistent' finds their places"
        )
    return side


def agreeing(weights: Tensor, partner: Tensor, gallery: int) -> Tensor:
    """(n, Q) bool: of n images' matches, those that one geometry holds together.

    weights (n, Q) of each query token's match, 0 where it has none; partner (n, Q) int64, its gallery token,
    of `gallery` in all. Tokens stand row by row on square grids of cells. The best similarity transform is
    the one whose matches weigh most; affine maps are then fitted to them. None agree where no two matches
    make a transform.
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
    held = held[torch.arange(n), total.argmax(1)]
    for _ in range(FITS):
        held = _fitted(weights, here, there, held)
    return held


def _fitted(weights: Tensor, here: Tensor, there: Tensor, held: Tensor) -> Tensor:
    """(n, Q) bool: the matches near the affine map that fits those held best, by weighted least squares.

    Where they fix no map, or a mirrored or very slanted one, those held stay.
    """
    here, there = here.to(torch.complex128), there.to(torch.complex128)
    share = (weights * held).double()
    share = share / share.sum(1, keepdim=True).clamp(min=1e-12)
    a = here - (share * here).sum(1, keepdim=True)  # (n, Q) places about their weighted mean
    b = there - (share * there).sum(1, keepdim=True)
    x, y = a.real, a.imag
    xx, yy, xy = ((share * product).sum(1, keepdim=True) for product in (x * x, y * y, x * y))
    spread = xx * yy - xy * xy
    bx, by = ((share * b * axis).sum(1, keepdim=True) for axis in (x, y))  # complex: both rows of the map
    known = spread > ROUND * (xx + yy).square() / 4
    divisor = torch.where(known, spread, 1.0)
    along, across = (bx * yy - by * xy) / divisor, (by * xx - bx * xy) / divisor  # images of the two axes
    area = along.real * across.imag - along.imag * across.real  # the map's determinant
    square = (along.abs().square() + across.abs().square()) / 2
    gap = (square.square() - area.square()).clamp(min=0).sqrt()  # between the squared singular values
    usable = known & (area > 0) & (held.sum(1, keepdim=True) > 3)
    usable &= (square + gap < STRETCH**2) & (square - gap > STRETCH**-2)
    off = (along * x + across * y - b).abs()
    near = (off < NEAR_FIT * area.clamp(min=1).sqrt()) & (weights > 0)
    return torch.where(usable, near, held)


def _places(tokens: Tensor, side: int) -> Tensor:
    """Columns and rows as complex numbers, in cells."""
    return torch.complex((tokens % side).float(), (tokens // side).float())
