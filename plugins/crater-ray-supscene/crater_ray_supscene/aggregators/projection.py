"""The head that descriptors pass in training alone: Linear, norm, ReLU, Linear."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import normalize

from crater_ray_supscene.aggregators.saved import seeded


class Projection(nn.Module):
    """To `out` numbers; dropped at inference. norm "none" has no batch statistics."""

    def __init__(self, dim: int, out: int = 256, hidden: int = 2048, norm: str = "batch") -> None:
        super().__init__()
        with seeded(1):
            first, last = nn.Linear(dim, hidden, bias=False), nn.Linear(hidden, out, bias=False)
        middle = nn.BatchNorm1d(hidden) if norm == "batch" else nn.Identity()
        self.layers = nn.Sequential(first, middle, nn.ReLU(), last)

    def forward(self, vectors: Tensor) -> Tensor:
        """(N, dim) -> (N, out), unit rows."""
        return normalize(self.layers(vectors), dim=1)
