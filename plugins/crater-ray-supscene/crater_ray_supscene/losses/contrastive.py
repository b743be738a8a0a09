"""Supervised contrastive loss with weighted positives, and its late-interaction sister."""

from __future__ import annotations

import torch
from torch import Tensor


def contrastive(similarity: Tensor, weights: Tensor, ignored: Tensor, temperature: float) -> Tensor:
    """Eq. 8, SupScene: the mean over anchors of their weighted cross-entropy; 0 without any anchor.

    similarity (B, B), rows are anchors; weights (B, B) of positives, as losses.weights gives them; ignored
    (B, B) bool, pairs that are neither positive nor in the denominator: an image and itself, padding, pairs
    whose overlap is unknown. An anchor is a row with any weight.
    """
    weights = weights.masked_fill(ignored, 0.0)
    logits = (similarity / temperature).masked_fill(ignored, -torch.inf)
    total = weights.sum(1)
    anchors = total > 0
    if not bool(anchors.any()):
        return similarity.sum() * 0.0  # so that every worker's graph is the same
    logits, weights, total = logits[anchors], weights[anchors], total[anchors]
    log_share = logits - logits.logsumexp(1, keepdim=True)
    log_share = torch.where(weights > 0, log_share, 0.0)  # 0 times minus infinity is no number
    return -((weights * log_share).sum(1) / total).mean()


def maxsim(tokens: Tensor) -> Tensor:
    """(B, B): the mean over a row image's tokens of their best cosine among a column image's.

    tokens (B, t, D), unit rows.
    """
    count, each, dim = tokens.shape
    cosines = tokens.reshape(-1, dim) @ tokens.reshape(-1, dim).t()
    best = cosines.reshape(count * each, count, each).amax(2)
    best = best.float() if best.dtype == torch.bfloat16 else best
    return best.reshape(count, each, count).mean(1)
