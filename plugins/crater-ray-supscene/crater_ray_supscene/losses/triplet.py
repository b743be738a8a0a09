"""The baseline before contrastive learning: a triplet for every positive pair, with its hardest negative."""

from __future__ import annotations

import torch
from torch import Tensor


def triplet(similarity: Tensor, positives: Tensor, ignored: Tensor, margin: float = 0.1) -> Tensor:
    """The mean over positive pairs of max(0, margin + hardest negative's cosine - the pair's); 0 without any.

    similarity (B, B) cosines, rows are anchors; positives (B, B) bool; negatives are the pairs that are
    neither positive nor ignored. A row without a negative gives none.
    """
    positives = positives & ~ignored
    negatives = ~positives & ~ignored
    hardest = similarity.masked_fill(~negatives, -torch.inf).amax(1, keepdim=True)
    counted = positives & negatives.any(1, keepdim=True)
    if not bool(counted.any()):
        return similarity.sum() * 0.0
    return (margin + hardest - similarity).clamp(min=0)[counted].mean()
