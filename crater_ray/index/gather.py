"""Rows out of a memory-mapped file."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray


def gather(codes: NDArray[np.uint8], rows: ArrayLike) -> NDArray[np.uint8]:
    """Those rows of codes (N, R), in that order: (len(rows), R) uint8, contiguous, a copy.

    Raises ValueError for a row that is not there.
    """
    wanted = np.asarray(rows, dtype=np.int64)
    if wanted.ndim != 1:
        raise ValueError(f"rows are {wanted.shape}; one list of row numbers is asked for")
    out = np.empty((len(wanted), codes.shape[1]), codes.dtype)
    if not len(wanted):
        return out
    if wanted.min() < 0 or wanted.max() >= len(codes):
        raise ValueError(
            f"rows {wanted.min()} to {wanted.max()} are asked for; there are 0 to {len(codes) - 1}"
        )
    # mode="clip" writes straight into out, where the default copies once more; the rows are checked before
    np.take(codes.view(np.ndarray), wanted, axis=0, out=out, mode="clip")
    return out


def ranges(rows: NDArray[np.int64]) -> list[tuple[int, int]]:
    """(first, last + 1) of each run of neighbouring rows, ascending; a row listed twice counts once."""
    ascending = np.unique(rows)
    cuts = [0, *(np.flatnonzero(np.diff(ascending) > 1) + 1).tolist(), len(ascending)]
    return [(int(ascending[a]), int(ascending[b - 1]) + 1) for a, b in pairwise(cuts)]
