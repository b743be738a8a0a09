"""A batch's loss as the job names it: one of five on the vectors, and the late-interaction term on tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from crater_ray.precision import Precision, in_bfloat16
from crater_ray_supscene.losses.arcface import ArcFace
from crater_ray_supscene.losses.contrastive import contrastive, maxsim
from crater_ray_supscene.losses.triplet import triplet
from crater_ray_supscene.losses.weights import hard_weights, soft_weights

Name = Literal["soft_supcon", "supcon", "triplet", "arcface"]


@dataclass(frozen=True, slots=True)
class Terms:
    """Which loss, and its numbers."""

    name: Name = "soft_supcon"
    temperature: float = 0.1
    positive: float = 0.25  # overlap from which a pair is positive
    gamma: float = 0.7  # Eq. 7
    margin: float = 0.1  # triplet: of the cosine; arcface: radians
    scale: float = 30.0  # arcface
    vector: float = 1.0  # weight of the loss on vectors
    late: float = 0.0  # weight of the loss on tokens
    late_temperature: float = 0.03


class Objective(nn.Module):
    """The loss of one gathered batch. ArcFace's centres are its only parameters.

    precision: of the cosines of tokens.
    """

    def __init__(self, terms: Terms, classes: int, dim: int, *, precision: Precision = "fp32") -> None:
        super().__init__()
        self.terms, self._precision = terms, precision
        self.arcface = ArcFace(classes, dim, terms.scale, terms.margin) if terms.name == "arcface" else None

    def forward(
        self, vectors: Tensor, tokens: Tensor | None, overlap: Tensor, ignored: Tensor, labels: Tensor
    ) -> Tensor:
        """vectors (B, d) and tokens (B, t, D) unit rows, overlap (B, B), ignored (B, B) bool, labels (B,)."""
        terms = self.terms
        loss = torch.zeros((), device=vectors.device)
        if terms.vector:
            loss = loss + terms.vector * self._of_vectors(vectors, overlap, ignored, labels)
        if terms.late and tokens is not None:
            device = tokens.device.type
            short = in_bfloat16(self._precision, device)
            with torch.autocast(device, torch.bfloat16, enabled=short):
                similarity = maxsim(tokens)
            late = contrastive(similarity, self._weights(overlap), ignored, terms.late_temperature)
            loss = loss + terms.late * late
        return loss

    def teaches(self, overlap: Tensor, ignored: Tensor, labels: Tensor) -> bool:
        """Whether a batch has what the loss compares: a positive pair and another image, or classes.

        overlap (B, B), ignored (B, B) bool, labels (B,), as `forward` takes them.
        """
        terms, others = self.terms, (~ignored).sum(1)
        positives = ((self._weights(overlap) > 0) & ~ignored).sum(1)
        contrasted = (positives > 0) & (others > 1)
        of_vectors = contrasted
        if self.arcface is not None:
            of_vectors = (labels >= 0) & (others > 0)
        elif terms.name == "triplet":
            of_vectors = (positives > 0) & (others > positives)
        counted = torch.zeros_like(contrasted)
        for weight, rows in ((terms.vector, of_vectors), (terms.late, contrasted)):
            counted = counted | rows if weight else counted
        return bool(counted.any())

    def _weights(self, overlap: Tensor) -> Tensor:
        terms = self.terms
        if terms.name == "soft_supcon":
            return soft_weights(overlap, terms.positive, terms.gamma)
        return hard_weights(overlap, terms.positive)

    def _of_vectors(self, vectors: Tensor, overlap: Tensor, ignored: Tensor, labels: Tensor) -> Tensor:
        terms = self.terms
        if self.arcface is not None:
            present = ~ignored.all(1)  # padding ignores every pair
            found: Tensor = self.arcface(vectors, torch.where(present, labels, -1))
            return found
        similarity = vectors @ vectors.t()
        if terms.name == "triplet":
            return triplet(similarity, overlap >= terms.positive, ignored, terms.margin)
        return contrastive(similarity, self._weights(overlap), ignored, terms.temperature)
