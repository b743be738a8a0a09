"""NetVLAD: soft assignment to learned clusters, residuals, intra-normalisation."""

from __future__ import annotations

import math
from pathlib import Path

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from crater_ray.types import Side, Tokens, TokenShape
from crater_ray_supscene.aggregators.saved import Trained, seeded
from crater_ray_supscene.aggregators.validity import of_some, of_valid, patches_of

ROUNDS = 20  # of k-means


class Netvlad(Trained):
    """One vector of clusters x D numbers of unit tokens; batch norm after the first L2, as in SupScene."""

    name = "netvlad"
    defaults = {"clusters": 32, "alpha": 100.0, "norm": "batch"}  # noqa: RUF012

    def __init__(
        self,
        shape: TokenShape,
        path: Path | None = None,
        clusters: int | None = None,
        alpha: float | None = None,
        norm: str | None = None,
    ) -> None:
        self._begin(shape, path, clusters=clusters, alpha=alpha, norm=norm)
        count = int(self.options["clusters"])
        self.dim = count * shape.dim
        with seeded(0):
            self.centres = nn.Parameter(normalize(torch.randn(count, shape.dim), dim=1))
        self.assign = nn.Linear(shape.dim, count)
        self._start(self.centres.detach().clone(), float(self.options["alpha"]))
        self.norm = nn.BatchNorm1d(self.dim) if self.options["norm"] == "batch" else nn.Identity()
        self._end(path)

    def forward(self, tokens: Tokens, side: Side = "gallery") -> Tensor:
        """(N, 1, dim) float32, unit rows."""
        patches = normalize(patches_of(tokens), dim=2)
        share = self.assignment(tokens)
        residuals = share @ patches - share.sum(2)[:, :, None] * self.centres
        vector = normalize(normalize(residuals, dim=2).flatten(1), dim=1)
        return of_some(normalize(self.norm(vector), dim=1), tokens)[:, None]

    def assignment(self, tokens: Tokens) -> Tensor:
        """(N, K, T): the share of each valid token that each cluster gets; sums to one over K."""
        logits: Tensor = self.assign(normalize(patches_of(tokens), dim=2))
        return of_valid(logits.softmax(2), tokens).transpose(1, 2)

    def initialise(self, patches: NDArray[np.float32], seed: int) -> None:
        """Clusters by spherical k-means over patches (n, D).

        The assignment is so sharp that the second nearest cluster gets a hundredth of the nearest's share on
        average. Raises ValueError for fewer tokens than clusters.
        """
        count = len(self.centres)
        if len(patches) < count:
            raise ValueError(f"{len(patches)} tokens cannot start {count} clusters")
        points = patches / np.maximum(np.linalg.norm(patches, axis=1, keepdims=True), 1e-12)
        means = faiss.Kmeans(
            points.shape[1], count, niter=ROUNDS, seed=seed, spherical=True, min_points_per_centroid=1
        )
        means.train(np.ascontiguousarray(points, np.float32))
        centroids = np.array(means.centroids, np.float32)
        near = np.sort(points @ centroids.T, axis=1)
        gap = float((near[:, -1] - near[:, -2]).mean()) if count > 1 else 1.0
        with torch.no_grad():
            self.centres.copy_(torch.from_numpy(centroids))
        self._start(torch.from_numpy(centroids), -math.log(0.01) / max(gap, 1e-6))

    def _start(self, centroids: Tensor, alpha: float) -> None:
        with torch.no_grad():
            self.assign.weight.copy_(alpha * normalize(centroids, dim=1))
            self.assign.bias.zero_()
