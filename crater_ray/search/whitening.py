"""Whitening of the shortlist vectors: centred, scaled along their principal axes, unit length again.

Vectors of a frozen backbone differ along few axes, and those tell light and texture rather than place. On
20,000 views of the Moon a whitened class token finds more of what a late interaction would than the means,
signs and low-dimensional tokens it was compared with, in no more bytes. docs/benchmarks/search.md compares it
with centroid codes and fixed-dimensional encodings too.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Learnt = dict[str, NDArray[Any]]  # centre (G,), axes (A, G)
SAMPLE: Final = 8192  # vectors learnt from at most
WIDEST: Final = 1024  # axes kept at most; wider vectors are learnt from through their inner products
FLOOR: Final = 0.3  # of the total variance, over the size of the sample: a small one knows its axes badly


def learn(vectors: NDArray[np.floating[Any]], seed: int) -> Learnt:
    """centre (G,) and axes (A, G) float32 of a seeded sample of vectors (N, m, G); A = min(G, 1024).

    Axis i is the i-th principal one over sqrt(variance_i + 0.3 / n of the total variance), n vectors learnt
    from; wider vectors keep no more axes than the sample spans. Raises ValueError without vectors, or when
    one is not finite.
    """
    flat = vectors.reshape(-1, vectors.shape[-1])
    return learn_from(flat[drawn(len(flat), flat.shape[1], seed)])


def drawn(count: int, width: int, seed: int) -> NDArray[np.int64]:
    """The places, ascending, of the vectors learnt from among `count` of that width."""
    most = SAMPLE if width <= WIDEST else 2 * WIDEST
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def learn_from(sample: NDArray[np.floating[Any]]) -> Learnt:
    """As `learn`, of a sample (n, G) that was drawn already.

    Vectors of zeros are of images without a token, and teach nothing where there are others.
    """
    if len(sample):
        sample = sample[sample.any(axis=1)] if sample.any() else sample
    if not len(sample):
        raise ValueError("there is no vector to learn a whitening from")
    width, sample = sample.shape[1], sample.astype(np.float64)
    if not np.isfinite(sample).all():
        raise ValueError("a shortlist vector is not finite; no whitening can be learnt from it")
    count, centre = len(sample), sample.mean(0)
    spread = sample - centre
    if width <= WIDEST:
        values, columns = np.linalg.eigh(spread.T @ spread / count)
        axes = columns.T[::-1]
    else:  # the same eigenvalues, of the smaller matrix
        values, columns = np.linalg.eigh(spread @ spread.T / count)
        spanned = np.flatnonzero(values > 1e-9 * values[-1])[-WIDEST:]
        values = values[spanned]
        axes = (columns[:, spanned].T @ spread)[::-1] / np.sqrt(values[::-1, None] * count)
    floor = max(FLOOR / count * (spread**2).sum() / count, 1e-12)
    scaled = axes / np.sqrt(np.maximum(values[::-1], 0.0) + floor)[:, None]
    return {"centre": centre.astype(np.float32), "axes": scaled.astype(np.float32)}


def whiten(vectors: NDArray[np.floating[Any]], learnt: Learnt) -> Floats:
    """(N, m, A) float32 unit rows of vectors (N, m, G); one of zeros or that is the centre becomes zeros.

    Raises ValueError for vectors of another width than was learnt.
    """
    centre, axes = learnt["centre"], learnt["axes"]
    if vectors.ndim != 3 or vectors.shape[2] != len(centre):
        raise ValueError(f"vectors are {vectors.shape}; (images, vectors, {len(centre)}) are asked for")
    flat = vectors.astype(np.float32).reshape(-1, len(centre))
    rows = (flat - centre) @ axes.T
    rows[~flat.any(axis=1)] = 0
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(lengths > 0, lengths, np.float32(1))
    return rows.reshape(*vectors.shape[:2], len(axes))
