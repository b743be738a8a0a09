"""Values between the samples of a raster, where some of the samples are no measurements."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

ENOUGH = 0.5  # weight of the neighbours with a measurement, from which a point has a value


def bilinear(block: NDArray[Any], rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[Any]:
    """(B, h, w) at fractional (rows, columns), each (S, S) -> (S, S[, B]).

    Neighbours that are NaN have no weight; those of the others are scaled to sum to 1. A point whose other
    neighbours weigh less than one half is NaN: it lies nearest to what was not measured.
    """
    known = np.isfinite(rows) & np.isfinite(columns)
    rows, columns = np.where(known, rows, 0.0), np.where(known, columns, 0.0)
    high, wide = block.shape[1:]
    top = np.minimum(rows.astype(np.int64), max(high - 2, 0))
    left = np.minimum(columns.astype(np.int64), max(wide - 2, 0))
    down, across = (rows - top).astype(np.float32), (columns - left).astype(np.float32)
    corner = top * wide + left
    below, beside = (wide if high > 1 else 0), (1 if wide > 1 else 0)
    bands = []
    for band in block:
        flat = band.reshape(-1)
        upper, lower = flat[corner], flat[corner + below]
        upper = upper + (flat[corner + beside] - upper) * across
        lower = lower + (flat[corner + below + beside] - lower) * across
        values = upper + (lower - upper) * down
        values[~known] = np.nan
        gaps = np.isnan(values) & known
        if gaps.any():
            at = corner[gaps]
            four = flat[np.stack([at, at + beside, at + below, at + below + beside])]
            values[gaps] = _of_measured(four, down[gaps], across[gaps])
        bands.append(values)
    return bands[0] if len(bands) == 1 else np.stack(bands, axis=-1)


def _of_measured(four: NDArray[Any], down: NDArray[Any], across: NDArray[Any]) -> NDArray[Any]:
    """(N,) of (4, N) neighbours, upper left, upper right, lower left, lower right, some of them NaN."""
    weights = np.stack(
        [(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across]
    ).astype(np.float64)
    weights[np.isnan(four)] = 0.0
    total = weights.sum(axis=0)
    mean = (weights * np.nan_to_num(four)).sum(axis=0) / np.maximum(total, ENOUGH)
    return np.where(total >= ENOUGH, mean, np.nan).astype(four.dtype)
