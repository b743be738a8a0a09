"""One vector an image: the class token, or the patch tokens pooled."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

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
    """The mean of the patch tokens."""

    def __call__(self, tokens: Tokens, side: Side) -> Tensor:
        """(N, 1, dim) float32, unit rows."""
        return _unit(tokens.patches.float().mean(1))


class Max(_Pooling):
    """The largest value of each channel over the patch tokens."""

    def __call__(self, tokens: Tokens, side: Side) -> Tensor:
        """(N, 1, dim) float32, unit rows."""
        return _unit(tokens.patches.float().amax(1))


class Gem(_Pooling):
    """Generalised mean, (mean of max(x, eps)^p)^(1/p): between Mean (p = 1) and Max (p to infinity).

    The clamp drops negative values, as published; tokens of a ViT are signed.
    """

    def __init__(self, shape: TokenShape, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__(shape)
        self.p = p
        self.eps = eps

    def __call__(self, tokens: Tokens, side: Side) -> Tensor:
        """(N, 1, dim) float32, unit rows."""
        patches = tokens.patches.float().clamp(min=self.eps)
        peak = patches.amax(1, keepdim=True)  # a large p overflows float32 without it
        powers = (patches / peak).pow(self.p).mean(1).pow(1.0 / self.p)
        return _unit(powers * peak[:, 0])


def _unit(vectors: Tensor) -> Tensor:
    return normalize(vectors.float(), dim=-1)[:, None]
