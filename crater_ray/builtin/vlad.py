"""VLAD over a k-means vocabulary of patch tokens, as AnyLoc has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from crater_ray.builtin.learnt import Floats, Learnt, kept, whitened, whitening
from crater_ray.builtin.patches import there
from crater_ray.errors import ConfigError
from crater_ray.types import Side, Tokens, TokenShape

POINTS = 1024  # tokens a centre is learnt from, at most
ROUNDS = 25  # of k-means
CHUNK = 64  # images at a time


class Vlad:
    """One vector of `clusters` x D numbers, or of `whiten`: the residuals of each cluster. Learns centres.

    Unit tokens go to the centre of highest cosine (of equals the first). The residuals of a cluster are
    summed and made unit, then the whole is. It is then PCA-whitened to `whiten` dimensions, if given.
    Raises ConfigError for a whitening to more dimensions than there are.
    """

    k = 1

    def __init__(self, shape: TokenShape, clusters: int = 32, whiten: int | None = None) -> None:
        whole = clusters * shape.dim
        if whiten is not None and whiten > whole:
            raise ConfigError(
                f"whiten is {whiten}, but {clusters} clusters of {shape.dim} give {whole} dimensions"
            )
        self.dim = whiten or whole
        self._clusters = clusters
        self._whiten = whiten
        self._learnt = Learnt("vlad")

    def fit(self, sample: Iterator[Tokens], seed: int) -> dict[str, NDArray[Any]]:
        """centres (clusters, D), unit rows; with `whiten` centre and axes of `crater_ray.builtin.learnt`."""
        images = kept(sample, seed)
        centres = vocabulary(images.reshape(-1, images.shape[2]), self._clusters, seed)
        if self._whiten is None:
            return {"centres": centres}
        chunks = (torch.from_numpy(images[at : at + CHUNK]) for at in range(0, len(images), CHUNK))
        vectors = torch.cat([vlad(chunk, torch.from_numpy(centres)) for chunk in chunks])
        return {"centres": centres, **whitening(vectors.numpy(), self._whiten)}

    def load(self, state: dict[str, NDArray[Any]]) -> None:
        self._learnt.load(state)

    def __call__(self, tokens: Tokens, side: Side) -> Tensor:
        """(N, 1, dim) float32, unit rows. Raises ValueError before `load`."""
        learnt = self._learnt.on(tokens.patches.device)
        vectors = vlad(there(tokens), learnt["centres"])
        if self._whiten is not None:
            vectors = normalize(whitened(vectors, learnt), dim=-1)
        return vectors[:, None]


def vlad(patches: Tensor, centres: Tensor) -> Tensor:
    """(N, clusters x D) float32, unit rows, of patches (N, T, D) and centres (clusters, D).

    Patches of zeros are not present and add nothing; an image of those alone has a row of zeros.
    """
    tokens = normalize(patches.float(), dim=-1)
    nearest = (tokens @ centres.t()).argmax(2, keepdim=True)
    member = torch.zeros(*tokens.shape[:2], len(centres), device=tokens.device).scatter_(2, nearest, 1.0)
    member *= (tokens != 0).any(2, keepdim=True)
    residuals = member.transpose(1, 2) @ tokens - member.sum(1)[:, :, None] * centres
    return normalize(normalize(residuals, dim=-1).flatten(1), dim=-1)


def vocabulary(tokens: NDArray[np.float16], clusters: int, seed: int) -> Floats:
    """(clusters, D) unit rows: centres of spherical k-means over unit tokens (n, D), without those of zeros.

    Raises ConfigError for fewer tokens than clusters.
    """
    tokens = tokens[tokens.any(1)]
    if len(tokens) < clusters:
        raise ConfigError(
            f"clusters is {clusters}, but the sample has {len(tokens)} tokens; "
            "raise [index] fit_sample, or ask for fewer"
        )
    drawn = np.random.default_rng(seed).permutation(len(tokens))[: POINTS * clusters]
    points = normalize(torch.from_numpy(tokens[np.sort(drawn)]).float(), dim=-1).numpy()
    means = faiss.Kmeans(
        points.shape[1],
        clusters,
        niter=ROUNDS,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,  # or it complains of small samples on stderr
        max_points_per_centroid=POINTS,
    )
    means.train(points)
    return np.array(means.centroids, np.float32)
