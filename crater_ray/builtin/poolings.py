"""One vector an image: the class token, or the patch tokens pooled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from crater_ray.builtin import Pooled
from crater_ray.builtin.learnt import Learnt, whitened, whitening
from crater_ray.builtin.patches import there
from crater_ray.errors import ConfigError
from crater_ray.types import Side, Tokens, TokenShape


class _Pooling:
    """k = 1 and the backbone's own dim."""

    k = 1

    def __init__(self, shape: TokenShape) -> None:
        self.dim = shape.dim


class Cls(_Pooling):
    """The class token. Raises ConfigError for a backbone without one."""

    def __init__(self, shape: TokenShape) -> None:
        super().__init__(shape)
        if not shape.cls:
            raise ConfigError(
                "aggregator 'cls' needs a class token, but the backbone gives none; use mean, max or gem"
            )

    def __call__(self, tokens: Tokens, side: Side) -> Tensor:
        """(N, 1, dim) float32, unit rows."""
        if tokens.cls is None:
            raise ValueError("aggregator 'cls' was given Tokens without a class token")
        return _unit(tokens.cls)


class Mean(_Pooling):
    """The mean of the patch tokens that are present."""

    def __call__(self, tokens: Tokens, side: Side) -> Tensor:
        """(N, 1, dim) float32, unit rows; zeros for an image without a token."""
        return _unit(there(tokens).mean(1))  # over how many has no say in a direction


class Max(_Pooling):
    """The largest value of each channel over the patch tokens that are present."""

    def __call__(self, tokens: Tokens, side: Side) -> Tensor:
        """(N, 1, dim) float32, unit rows; zeros for an image without a token."""
        present = tokens.present
        largest = tokens.patches.float().masked_fill(~present[:, :, None], -torch.inf).amax(1)
        return _unit(largest.masked_fill(~present.any(1, keepdim=True), 0.0))


class Gem(_Pooling):
    """Generalised mean, (mean of max(x, eps)^p)^(1/p): between Mean (p = 1) and Max (p to infinity).

    The clamp drops negative values, as published; tokens of a ViT are signed.
    """

    def __init__(self, shape: TokenShape, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__(shape)
        self.p = p
        self.eps = eps

    def __call__(self, tokens: Tokens, side: Side) -> Tensor:
        """(N, 1, dim) float32, unit rows; zeros for an image without a token."""
        present = tokens.present[:, :, None]
        patches = there(tokens).clamp(min=self.eps)
        peak = patches.amax(1, keepdim=True)  # a large p overflows float32 without it
        powers = ((patches / peak).pow(self.p) * present).mean(1).pow(1.0 / self.p)
        return _unit(powers * peak[:, 0])


class Whitened:
    """Another pooling's vector, PCA-whitened to `dim` numbers. Learns its axes from a sample.

    Raises ConfigError for more dimensions than the pooling has, and as the pooling does.
    """

    k = 1

    def __init__(self, shape: TokenShape, of: Pooled = "cls", dim: int = 256) -> None:
        if dim > shape.dim:
            raise ConfigError(
                f"dim is {dim}, but the backbone gives {shape.dim} dimensions; use that or less"
            )
        poolings: dict[Pooled, type[Cls | Mean | Max | Gem]] = {
            "cls": Cls,
            "mean": Mean,
            "max": Max,
            "gem": Gem,
        }
        self._pooling = poolings[of](shape)
        self._learnt = Learnt("whitened")
        self.dim = dim

    def fit(self, sample: Iterator[Tokens], seed: int) -> dict[str, NDArray[Any]]:
        """centre and axes of `crater_ray.builtin.learnt.whitening`."""
        vectors = [self._pooling(tokens, "gallery")[:, 0].cpu().numpy() for tokens in sample]
        return {**whitening(np.concatenate(vectors), self.dim)}

    def load(self, state: dict[str, NDArray[Any]]) -> None:
        self._learnt.load(state)

    def __call__(self, tokens: Tokens, side: Side) -> Tensor:
        """(N, 1, dim) float32, unit rows. Raises ValueError before `load`."""
        learnt = self._learnt.on(tokens.patches.device)
        return _unit(whitened(self._pooling(tokens, side)[:, 0], learnt))


def _unit(vectors: Tensor) -> Tensor:
    return normalize(vectors.float(), dim=-1)[:, None]
