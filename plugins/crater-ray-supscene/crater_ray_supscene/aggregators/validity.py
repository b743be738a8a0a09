"""Tokens that are not valid have no part in a vector, whatever they hold."""

from __future__ import annotations

import torch
from torch import Tensor

from crater_ray.types import Tokens


def patches_of(tokens: Tokens) -> Tensor:
    """(N, T, D) float32, zeros where a patch is not valid."""
    return of_valid(tokens.patches.float(), tokens)


def of_valid(values: Tensor, tokens: Tokens, other: float = 0.0) -> Tensor:
    """(N, T, M) values, `other` where a patch is not valid."""
    return values if tokens.valid is None else torch.where(tokens.valid[:, :, None], values, other)


def of_some(vectors: Tensor, tokens: Tokens) -> Tensor:
    """(N, M) vectors, zeros for images without a valid token."""
    return vectors if tokens.valid is None else vectors * tokens.valid.any(1, keepdim=True)
