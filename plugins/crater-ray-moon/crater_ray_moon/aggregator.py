"""The vector that the weights were trained to rank by."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from crater_ray.errors import ConfigError
from crater_ray.types import Side, Tokens, TokenShape


class Moon:
    """The class token and the mean of the valid patch tokens side by side, 2 D numbers.

    Raises ConfigError for a backbone without a class token.
    """

    def __init__(self, shape: TokenShape) -> None:
        if not shape.cls:
            raise ConfigError("aggregator moon needs a class token, but the backbone gives none; use avg")
        self.k, self.dim = 1, 2 * shape.dim

    def __call__(self, tokens: Tokens, side: Side = "gallery") -> Tensor:
        """(N, 1, 2 D) float32, unit rows; zeros where no token is valid."""
        if tokens.cls is None:
            raise ValueError("aggregator moon was given Tokens without a class token")
        patches, valid = tokens.patches.float(), tokens.valid
        if valid is None:
            return normalize(torch.cat([tokens.cls.float(), patches.mean(1)], dim=1), dim=1)[:, None]
        total = torch.where(valid[:, :, None], patches, 0.0).sum(1)
        both = torch.cat([tokens.cls.float(), total / valid.sum(1, keepdim=True).clamp(min=1)], dim=1)
        return (normalize(both, dim=1) * valid.any(1, keepdim=True))[:, None]
