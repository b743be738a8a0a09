"""SALAD's aggregation, derived from its formulas: optimal transport of tokens to clusters, or to none."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from crater_ray.errors import ConfigError
from crater_ray.types import Side, Tokens, TokenShape
from crater_ray_supscene.aggregators.saved import Trained, seeded
from crater_ray_supscene.aggregators.validity import patches_of

SINKHORN_ROUNDS = 3


class Salad(Trained):
    """One vector of clusters x local_dim + global_dim numbers.

    Raises ConfigError without a class token, or with as many clusters as tokens.
    """

    name = "salad"
    defaults = {  # noqa: RUF012
        "clusters": 64,
        "local_dim": 128,
        "global_dim": 256,
        "hidden": 512,
        "dropout": 0.3,
    }

    def __init__(
        self,
        shape: TokenShape,
        path: Path | None = None,
        clusters: int | None = None,
        local_dim: int | None = None,
        global_dim: int | None = None,
        hidden: int | None = None,
        dropout: float | None = None,
    ) -> None:
        self._begin(
            shape,
            path,
            clusters=clusters,
            local_dim=local_dim,
            global_dim=global_dim,
            hidden=hidden,
            dropout=dropout,
        )
        count, local, whole = (int(self.options[key]) for key in ("clusters", "local_dim", "global_dim"))
        if not shape.cls:
            raise ConfigError("salad needs a class token, but the backbone gives none; use netvlad")
        if count >= shape.tokens:
            raise ConfigError(
                f"salad: clusters is {count}, but the backbone gives {shape.tokens} tokens; "
                "use fewer clusters"
            )
        self.dim = count * local + whole
        inner, drop = int(self.options["hidden"]), float(self.options["dropout"])

        def layers(out: int, dropped: float) -> nn.Sequential:
            first, last = nn.Linear(shape.dim, inner), nn.Linear(inner, out)
            return nn.Sequential(first, nn.Dropout(dropped), nn.ReLU(), last)

        with seeded(0):
            self.score = layers(count, drop)
            self.local = layers(local, drop)
            self.whole = layers(whole, 0.0)
        self.dustbin = nn.Parameter(torch.tensor(1.0))
        self._end(path)

    def forward(self, tokens: Tokens, side: Side = "gallery") -> Tensor:
        """(N, 1, dim) float32, unit rows. Raises ValueError for Tokens without a class token."""
        if tokens.cls is None:
            raise ValueError("salad was given Tokens without a class token")
        share = self.assignment(tokens)
        features = self.local(patches_of(tokens))  # (N, T, l)
        clusters = normalize(share @ features, dim=2).flatten(1)
        scene = normalize(self.whole(tokens.cls.float()), dim=1)
        return normalize(torch.cat([clusters, scene], dim=1), dim=1)[:, None]

    def assignment(self, tokens: Tokens) -> Tensor:
        """(N, K, T): the share of each token that goes to each cluster; the rest of it is discarded."""
        scores = self.score(patches_of(tokens)).transpose(1, 2)  # (N, m, T)
        bin_row = self.dustbin.expand(scores.shape[0], 1, scores.shape[2])
        scores = torch.cat([scores, bin_row], dim=1)
        if tokens.valid is None:
            return transported(scores)[:, :-1]
        return transported_some(scores, tokens.valid)[:, :-1]


def transported_some(scores: Tensor, valid: Tensor, rounds: int = SINKHORN_ROUNDS) -> Tensor:
    """As `transported`, of the n tokens of each image that are valid (N, T); the others are not transported.

    Where an image has no more tokens than there are clusters, clusters and bin take equal mass.
    """
    clusters = scores.shape[1] - 1
    counts = valid.sum(1).to(scores.dtype).clamp(min=1)  # (N,)
    rest = torch.maximum(counts - clusters, counts / (clusters + 1))  # to the bin
    each = (counts - rest) / clusters
    rows = torch.cat([each[:, None].expand(-1, clusters), rest[:, None]], 1).log()
    absent = torch.where(valid, 0.0, torch.finfo(scores.dtype).min / 4)[
        :, None
    ]  # finite, so that gradients are
    scores = scores + absent
    across, down = torch.zeros_like(scores[:, :, 0]), torch.zeros_like(scores[:, 0])
    for _ in range(rounds):
        across = rows - (scores + down[:, None]).logsumexp(2)
        down = -(scores + across[:, :, None]).logsumexp(1).masked_fill(~valid, 0.0)
    return (scores + across[:, :, None] + down[:, None]).exp() * valid[:, None]


def transported(scores: Tensor, rounds: int = SINKHORN_ROUNDS) -> Tensor:
    """(N, m + 1, n) transport of n tokens to m clusters and a bin; columns sum to one after the last round.

    scores (N, m + 1, n), the bin last. Each cluster takes one token's mass, the bin the other n - m.
    """
    clusters, count = scores.shape[1] - 1, scores.shape[2]
    total = math.log(count + clusters)
    rows = scores.new_full((clusters + 1,), -total)
    rows[-1] = math.log(count - clusters) - total
    columns = scores.new_full((count,), -total)
    across, down = torch.zeros_like(scores[:, :, 0]), torch.zeros_like(scores[:, 0])
    for _ in range(rounds):
        across = rows - (scores + down[:, None]).logsumexp(2)
        down = columns - (scores + across[:, :, None]).logsumexp(1)
    return (scores + across[:, :, None] + down[:, None] + total).exp()
