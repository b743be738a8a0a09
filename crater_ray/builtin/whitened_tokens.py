"""Patch tokens freed of what all of them share, then handed to another aggregator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from crater_ray.builtin import OfTokens
from crater_ray.builtin.learnt import Learnt, whitened
from crater_ray.builtin.patches import there, unit
from crater_ray.errors import ConfigError
from crater_ray.plugins import Aggregator, Asymmetric, Located, registry
from crater_ray.types import Side, Tokens, TokenShape

SPREAD = {"instance_tokens": {"k": 32, "seeds": "farthest"}}  # options of `of` where none are given
FLOOR = 0.01  # of the mean variance, added to each: directions without signal are not blown up


class WhitenedTokens:
    """What the aggregator `of` makes of tokens centred and scaled by variance^-power along their axes.

    Tokens of a frozen ViT agree at cosine 0.7 and more whatever they show; without their mean and with their
    axes evened out, what is left tells places apart. power 0 only centres, 0.5 whitens. `dim` keeps the
    first axes. The attention and each token's length stay, so seeds are chosen as before.
    Without `of_options`, instance_tokens takes 32 seeds that lie farthest apart: among whitened tokens they
    tell more than the most attended ones. Raises ConfigError for more dimensions than there are, and as `of`
    does.
    """

    def __init__(
        self,
        shape: TokenShape,
        of: OfTokens = "instance_tokens",
        of_options: dict[str, Any] | None = None,
        dim: int | None = None,
        power: float = 0.5,
    ) -> None:
        if dim is not None and dim > shape.dim:
            raise ConfigError(
                f"dim is {dim}, but the backbone gives {shape.dim} dimensions; use that or less"
            )
        self.dim = dim or shape.dim
        self._width = shape.dim
        here = registry()
        ref = here.ref("aggregator", of, of_options or SPREAD.get(of))
        self._inner: Aggregator = here.build(ref, replace(shape, dim=self.dim))
        self.k = self._inner.k
        self.query_k = self._inner.query_k if isinstance(self._inner, Asymmetric) else self.k
        self._power = power
        self._learnt = Learnt("whitened_tokens")

    def fit(self, sample: Iterator[Tokens], seed: int) -> dict[str, NDArray[Any]]:
        """centre (D,) and axes (dim, D), of every token of the sample; moments are summed, tokens not kept.

        Tokens that are not present teach nothing.

        Raises ValueError where there is none.
        """
        count, total, products = 0, np.zeros(self._width), np.zeros((self._width, self._width))
        for tokens in sample:
            rows = unit(tokens)[tokens.present]
            rows = rows[rows.isfinite().all(1)]
            count += len(rows)
            total += rows.sum(0, dtype=torch.float64).cpu().numpy()
            products += (rows.T @ rows).double().cpu().numpy()  # float32 within a batch
        if not count:
            raise ValueError("there is no image to learn from")
        centre = total / count
        variances, axes = np.linalg.eigh(products / count - np.outer(centre, centre))
        variances, axes = np.maximum(variances[::-1], 0.0), axes[:, ::-1].T
        floor = max(FLOOR * variances.mean(), 1e-12)
        scaled = axes * (variances + floor)[:, None] ** -self._power
        return {"centre": centre.astype(np.float32), "axes": scaled[: self.dim].astype(np.float32)}

    def load(self, state: dict[str, NDArray[Any]]) -> None:
        self._learnt.load(state)

    def __call__(self, tokens: Tokens, side: Side) -> Tensor:
        """(N, k, dim) float32, unit rows. Raises ValueError before `load`."""
        return self._inner(self._whitened(tokens), side)

    def locate(self, tokens: Tokens, side: Side) -> Tensor | None:
        """As the inner aggregator does; None where that cannot say."""
        inner = self._inner
        return inner.locate(self._whitened(tokens), side) if isinstance(inner, Located) else None

    def _whitened(self, tokens: Tokens) -> Tokens:
        patches = whitened(unit(tokens), self._learnt.on(tokens.patches.device))
        lengths = there(tokens).norm(dim=-1, keepdim=True)  # 0 where a patch is not present: it stays zeros
        return replace(tokens, patches=normalize(patches, dim=-1) * lengths)
