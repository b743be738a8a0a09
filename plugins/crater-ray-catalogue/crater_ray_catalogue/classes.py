"""Classes of form: k-means over rows of numbers, in batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans


@dataclass(frozen=True)
class Classes:
    """N craters in `count` classes, the largest first."""

    of: NDArray[np.int64]  # (N,) from 0
    typical: NDArray[np.float64]  # (N,) cosine with the class's mean
    count: int


def classes(form: NDArray[np.float32], count: int, seed: int) -> Classes:
    """At most `count` classes; the same for the same seed."""
    count = min(count, len(form))
    found = MiniBatchKMeans(count, random_state=seed, n_init=3, batch_size=1024).fit(form)
    sizes = np.bincount(found.labels_, minlength=count)
    order = np.argsort(-sizes, kind="stable")
    order = order[sizes[order] > 0]
    rank = np.full(count, -1)
    rank[order] = np.arange(len(order))
    of = rank[found.labels_].astype(np.int64)
    centres = found.cluster_centers_[order]
    centres = centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
    return Classes(of, np.einsum("nd,nd->n", form, centres[of]).astype(np.float64), len(order))
