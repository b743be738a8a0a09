"""The plain poolings as they are trained: GeM with its power learnt, the mean, the class token, or both."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from crater_ray.errors import ConfigError
from crater_ray.types import Side, Tokens, TokenShape
from crater_ray_supscene.aggregators.saved import Trained
from crater_ray_supscene.aggregators.validity import of_some, of_valid, patches_of


class TrainedGem(Trained):
    """(mean of max(x, 1e-6)^p)^(1/p), p learnt. The clamp drops negative values, as published."""

    name = "trained_gem"
    defaults = {"p": 3.0}  # noqa: RUF012

    def __init__(self, shape: TokenShape, path: Path | None = None, p: float | None = None) -> None:
        self._begin(shape, path, p=p)
        self.dim = shape.dim
        self.p = nn.Parameter(torch.tensor(float(self.options["p"])))
        self._end(path)

    def forward(self, tokens: Tokens, side: Side = "gallery") -> Tensor:
        """(N, 1, dim) float32, unit rows."""
        patches = patches_of(tokens).clamp(min=1e-6)
        peak = patches.amax(1, keepdim=True).detach()  # a large p overflows float32 without it
        powers = of_valid((patches / peak).pow(self.p), tokens).mean(1)
        pooled = powers.clamp(min=torch.finfo(powers.dtype).tiny).pow(1.0 / self.p) * peak[:, 0]
        return of_some(normalize(pooled, dim=1), tokens)[:, None]


class TrainedAvg(Trained):
    """The mean of the patch tokens: nothing of its own to learn, the backbone learns for it."""

    name = "trained_avg"

    def __init__(self, shape: TokenShape, path: Path | None = None) -> None:
        self._begin(shape, path)
        self.dim = shape.dim
        self._end(path)

    def forward(self, tokens: Tokens, side: Side = "gallery") -> Tensor:
        """(N, 1, dim) float32, unit rows."""
        return normalize(patches_of(tokens).mean(1), dim=1)[:, None]


class TrainedCls(Trained):
    """The class token alone. Raises ConfigError for a backbone without one."""

    name = "trained_cls"

    def __init__(self, shape: TokenShape, path: Path | None = None) -> None:
        self._begin(shape, path)
        _has_class_token(shape, self.name)
        self.dim = shape.dim
        self._end(path)

    def forward(self, tokens: Tokens, side: Side = "gallery") -> Tensor:
        """(N, 1, dim) float32, unit rows. Raises ValueError for Tokens without a class token."""
        return normalize(_class_token(tokens, self.name), dim=1)[:, None]


class ClsMean(Trained):
    """The class token and the mean of the patch tokens side by side, 2 D numbers.

    Raises ConfigError for a backbone without a class token.
    """

    name = "cls_mean"

    def __init__(self, shape: TokenShape, path: Path | None = None) -> None:
        self._begin(shape, path)
        _has_class_token(shape, self.name)
        self.dim = 2 * shape.dim
        self._end(path)

    def forward(self, tokens: Tokens, side: Side = "gallery") -> Tensor:
        """(N, 1, dim) float32, unit rows. Raises ValueError for Tokens without a class token."""
        patches = patches_of(tokens)
        mean = patches.mean(1) if tokens.valid is None else patches.sum(1) / _counts(tokens.valid)
        both = torch.cat([_class_token(tokens, self.name), mean], dim=1)
        return normalize(both, dim=1)[:, None]


def _counts(valid: Tensor) -> Tensor:
    """(N, 1) tokens that are valid, at least 1."""
    return valid.sum(1, keepdim=True).clamp(min=1)


def _has_class_token(shape: TokenShape, name: str) -> None:
    if not shape.cls:
        raise ConfigError(f"{name} needs a class token, but the backbone gives none; use trained_avg")


def _class_token(tokens: Tokens, name: str) -> Tensor:
    if tokens.cls is None:
        raise ValueError(f"{name} was given Tokens without a class token")
    return tokens.cls.float()
