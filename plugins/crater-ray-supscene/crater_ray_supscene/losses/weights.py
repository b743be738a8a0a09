"""From overlaps to how much each pair counts as a positive."""

from __future__ import annotations

from torch import Tensor


def soft_weights(overlap: Tensor, positive: float = 0.25, gamma: float = 0.7) -> Tensor:
    """(B, B): O^gamma above `positive`, O^(1/gamma) below it (Eq. 7, SupScene). overlap (B, B) in 0..1."""
    return (overlap > positive) * overlap.pow(gamma) + (overlap <= positive) * overlap.pow(1.0 / gamma)


def hard_weights(overlap: Tensor, positive: float = 0.25) -> Tensor:
    """(B, B): 1 where the overlap reaches `positive`, else 0: plain supervised contrastive learning."""
    return (overlap >= positive).to(overlap.dtype)
