"""ArcFace: a class centre an object, and an angular margin towards it (Deng et al., CVPR 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from crater_ray_supscene.aggregators.saved import seeded


class ArcFace(nn.Module):
    """Class centres, and the loss of vectors against them; `margin` in radians."""

    def __init__(self, classes: int, dim: int, scale: float = 30.0, margin: float = 0.5) -> None:
        super().__init__()
        with seeded(2):
            self.centres = nn.Parameter(normalize(torch.randn(classes, dim), dim=1))
        self.scale, self.margin = scale, margin

    def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """The mean cross-entropy of scale x cos(angle + margin for the own class); label -1 is left out."""
        vectors, labels = vectors[labels >= 0], labels[labels >= 0]
        if not len(labels):
            return self.centres.sum() * 0.0
        cosines = vectors @ normalize(self.centres, dim=1).t()
        own = cosines.gather(1, labels[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
        turned = torch.cos(torch.acos(own) + self.margin)
        return cross_entropy(self.scale * cosines.scatter(1, labels[:, None], turned), labels)
