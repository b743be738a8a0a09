"""What a crater looks like as one row of numbers, and who is like whom. Arrays alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crater_ray.plugins import Index
from crater_ray_catalogue.entries import Entries

Rows = NDArray[np.float32]
AXES = 32  # of the shortlist vector that are kept, the strongest: what is behind them tells places, not forms
FLOOR = 0.01  # of the mean variance, added to each


def forms(index: Index, some: Entries, axes: int = AXES) -> Rows:
    """(N, V * axes) unit rows: the shortlist vectors of each entry's views side by side, each whitened.

    V is the number of views every entry has at least; the narrowest are taken.
    """
    vectors = index.vectors()
    row = {id: number for number, id in enumerate(index.ids)}
    count = min((len(views) for views in some.views), default=0)
    scales = []
    for scale in range(count):
        rows = np.array([row[views[scale]] for views in some.views], np.int64)
        scales.append(whitened(vectors[rows].reshape(len(rows), -1), axes))
    if not scales:
        return np.zeros((len(some), 0), np.float32)
    return np.asarray(np.concatenate(scales, 1) / np.sqrt(count), np.float32)


def whitened(vectors: NDArray[Any], axes: int) -> Rows:
    """(N, axes) unit rows along the strongest axes, each of which counts alike."""
    rows = np.asarray(vectors, np.float32)
    rows = rows - rows.mean(0)
    variances, directions = np.linalg.eigh((rows.T @ rows).astype(np.float64) / max(len(rows), 1))
    variances, directions = np.maximum(variances[::-1], 0)[:axes], directions[:, ::-1][:, :axes]
    scale = 1 / np.sqrt(variances + max(FLOOR * float(variances.mean()), 1e-12))
    rows = rows @ (directions * scale).astype(np.float32)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32)


def likeness(
    form: Rows, log_diameter: NDArray[np.float64], like: Sequence[int], unlike: Sequence[int], size: float
) -> NDArray[np.float64]:
    """(N,) how like the examples, unlike the counter-examples.

    `size` is the cost of a factor e in diameter. Rocchio's rule: the examples' mean, less half of the
    counter-examples'.
    """
    wish: NDArray[np.floating[Any]] = form[list(like)].mean(0)
    if unlike:
        wish = wish - form[list(unlike)].mean(0) / 2
    away = np.abs(log_diameter[:, None] - log_diameter[list(like)][None]).min(1)
    return np.asarray(form @ wish - size * away, np.float64)


def picked(
    form: Rows,
    score: NDArray[np.float64],
    top: int,
    diversity: float,
    pool: int = 500,
) -> list[int]:
    """Rows of the best, best first; -inf never. Maximal marginal relevance among the best `pool`.

    Carbonell and Goldstein, SIGIR 1998: (1 - diversity) score - diversity (likeness to what is picked).
    """
    order = np.argsort(-score, kind="stable")[: max(pool, top)]
    left = [int(row) for row in order if np.isfinite(score[row])]
    chosen: list[int] = []
    closest = np.full(len(left), -1.0)
    while left and len(chosen) < top:
        gain = (1 - diversity) * score[left] - diversity * np.maximum(closest, 0)
        best = int(np.argmax(gain))
        row = left.pop(best)
        closest = np.delete(closest, best)
        chosen.append(row)
        if left:
            closest = np.maximum(closest, form[left] @ form[row])
    return chosen
