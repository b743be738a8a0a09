"""The last vector of each unit, for mining hard negatives: units that the model finds similar."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

MOST = 256  # nearest units that are returned


class SimilarityBuffer(nn.Module):
    """Of every unit the mean of its images' vectors when it was last drawn.

    Checkpoints hold this buffer, so a resumed run draws the same batches.
    """

    vectors: Tensor

    def __init__(self, units: list[NDArray[np.int64]], dim: int) -> None:
        """units: the rows of each."""
        super().__init__()
        owners = np.full(max(int(rows.max()) for rows in units) + 1, -1)
        for unit, rows in enumerate(units):
            owners[rows] = unit
        self._owners = torch.from_numpy(owners)
        self.register_buffer("vectors", torch.zeros(len(units), dim))

    def update(self, rows: Tensor, there: Tensor, vectors: Tensor) -> None:
        """Adds a batch: rows (B,) of the plan, which of them have a vector (B,), vectors (B, d)."""
        owners = self._owners.to(rows.device)[rows][there]
        total = torch.zeros_like(self.vectors).index_add_(0, owners, vectors.detach()[there].to(self.vectors))
        seen = torch.bincount(owners, minlength=len(self.vectors)) > 0
        self.vectors[seen] = normalize(total[seen], dim=-1)

    def nearest(self, unit: int) -> NDArray[np.int64]:
        """Other units seen so far, by falling cosine; none where this one was not seen."""
        if not self.vectors[unit].any():
            return np.empty(0, np.int64)
        cosines = self.vectors @ self.vectors[unit]
        cosines[unit] = -torch.inf
        cosines[~self.vectors.any(1)] = -torch.inf
        best = torch.argsort(cosines, descending=True, stable=True)[:MOST]
        found: NDArray[np.int64] = best[cosines[best].isfinite()].cpu().numpy()
        return found
