"""Views of a projected raster: how coarse it is read, and where the projection is cut or ends."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from crater_ray_mosaic.projection import Floats

_FEW = 0.1  # of a view's points, that may have the raster finer than it is read
_JUMP = 8.0  # times what nine points in ten step at most, and as many pixels more: a cut of the projection


def stride(at: Floats) -> float:
    """Pixels of the raster along one of its axes from a point of the view to the next, 1 at least.

    at (S, S): a row or column for each point. Of most points, so that nowhere much detail is averaged away.
    """
    with np.errstate(invalid="ignore"):
        steps = np.hypot(at[1:, :-1] - at[:-1, :-1], at[:-1, 1:] - at[:-1, :-1])
    known = steps[np.isfinite(steps)]
    return max(1.0, float(np.quantile(known, _FEW))) if known.size else 1.0


def regions(rows: Floats, columns: Floats) -> Iterator[NDArray[np.bool_]]:
    """(S, S) masks of points whose pixels lie together, most often one of all that are known.

    More where the projection is cut across the view: the two edges of a sinusoidal map, say.
    """
    known = np.isfinite(rows) & np.isfinite(columns)
    for by_column in _apart(columns, known):
        yield from _apart(rows, by_column)


def _apart(at: Floats, among: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """The points of `among` divided where no pixel between two groups is wanted."""
    masked = np.where(among, at, np.nan)
    steps = np.abs(np.concatenate([np.diff(masked, axis=0).ravel(), np.diff(masked, axis=1).ravel()]))
    steps = steps[np.isfinite(steps)]
    jump = _JUMP * (1.0 + float(np.quantile(steps, 0.9))) if steps.size else np.inf
    if not steps.size or steps.max() <= jump:
        if among.any():
            yield among
        return
    values = np.sort(at[among])
    gaps = np.flatnonzero(np.diff(values) > jump)
    edges = [-np.inf, *((values[gaps] + values[gaps + 1]) / 2).tolist(), np.inf]
    for low, high in pairwise(edges):
        yield among & (at > low) & (at <= high)


def held(block: NDArray[np.float32], off: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(B, h, w) whose cells that reach off the globe (h, w) take what the cells beside them have.

    Two cells deep, which is as far as a place on the globe may look beyond its edge; NaN further out.
    """
    block, left = np.where(off, np.nan, block), off
    for _ in range(2):
        padded = np.pad(block, ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
        high, wide = off.shape
        beside = np.stack(
            [padded[:, y : y + high, x : x + wide] for y in range(3) for x in range(3) if (y, x) != (1, 1)]
        )
        count = np.isfinite(beside).sum(axis=0)
        mean = np.nansum(beside, axis=0) / np.maximum(count, 1)
        fill = left & (count > 0).all(axis=0)
        block = np.where(fill, mean, block).astype(np.float32)
        left = left & ~fill
    return block
