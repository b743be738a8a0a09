"""What aggregators learn from a sample: bounded while it is read, PCA-whitening, what was learnt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crater_ray.builtin.patches import there
from crater_ray.errors import ConfigError
from crater_ray.types import Tokens

Floats = NDArray[np.float32]
KEPT_BYTES = 256 << 20  # of float16 patches at most
FLOOR = 1e-6  # of the largest variance: a direction with less is not blown up further


class Learnt:
    """The arrays of a fit, on whichever device they are asked for."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._arrays: dict[str, Tensor] = {}

    def load(self, state: dict[str, NDArray[Any]]) -> None:
        self._arrays = {name: torch.from_numpy(np.array(array, np.float32)) for name, array in state.items()}

    def on(self, device: torch.device) -> dict[str, Tensor]:
        """Raises ValueError before `load`."""
        if not self._arrays:
            raise ValueError(f"aggregator {self._owner!r} learns from a sample: fit and load come first")
        if any(tensor.device != device for tensor in self._arrays.values()):
            self._arrays = {name: tensor.to(device) for name, tensor in self._arrays.items()}
        return self._arrays


def kept(sample: Iterator[Tokens], seed: int, most_bytes: int = KEPT_BYTES) -> NDArray[np.float16]:
    """(n, T, D) the patches of as many images as `most_bytes` hold, one or more, drawn from all alike.

    A patch that is not present is zeros.
    Raises ValueError for an empty sample.
    """
    draws = np.random.default_rng(seed)
    images: list[NDArray[np.float16]] = []
    seen = 0
    for tokens in sample:
        for patches in there(tokens).detach().cpu().half().numpy():
            if not np.isfinite(patches).all():
                continue  # the index will skip it
            seen += 1
            if not images or (len(images) + 1) * patches.nbytes <= most_bytes:
                images.append(patches.copy())
            elif (place := int(draws.integers(seen))) < len(images):  # the n-th stays with chance size / n
                images[place] = patches.copy()
    if not images:
        raise ValueError("there is no image to learn from")
    return np.stack(images)


def whitening(vectors: Floats, dim: int) -> dict[str, Floats]:
    """PCA of vectors (n, D): centre (D,), and axes (dim, D) divided by the standard deviation along each.

    Vectors of zeros are of images without a token, and teach nothing.
    Raises ConfigError for no more vectors than dimensions.
    """
    vectors = vectors[np.isfinite(vectors).all(1) & vectors.any(1)]
    count, width = vectors.shape
    if count <= dim:
        raise ConfigError(
            f"whitening to {dim} dimensions takes more than {dim} images, but the sample has {count}; "
            "raise [index] fit_sample, or ask for fewer dimensions"
        )
    centre = vectors.mean(0, dtype=np.float64).astype(np.float32)
    spread = vectors - centre
    if count < width:  # the same eigenvalues, of the smaller matrix
        values, left = np.linalg.eigh((spread @ spread.T).astype(np.float64))
        axes = left[:, ::-1][:, :dim].T @ spread
        axes /= np.maximum(np.linalg.norm(axes, axis=1, keepdims=True), 1e-12)
    else:
        values, right = np.linalg.eigh((spread.T @ spread).astype(np.float64))
        axes = right[:, ::-1][:, :dim].T
    variances = values[::-1][:dim] / count
    deviations = np.sqrt(np.maximum(variances, max(FLOOR * variances[0], 1e-12)))
    return {"centre": centre, "axes": (axes / deviations[:, None]).astype(np.float32)}


def whitened(vectors: Tensor, state: dict[str, Tensor]) -> Tensor:
    """(…, D) -> (…, dim), not yet unit; a vector of zeros, which stands for nothing, stays zeros."""
    some = (vectors != 0).any(-1, keepdim=True)
    return (vectors - state["centre"]) @ state["axes"].t() * some
