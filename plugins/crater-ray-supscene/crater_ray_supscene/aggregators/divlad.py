"""DiVLAD: VLAD whose tokens are weighted by the heads of class attention, gated by cluster (SupScene)."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from crater_ray.errors import ConfigError
from crater_ray.types import Side, Tokens, TokenShape
from crater_ray_supscene.aggregators.saved import Trained, seeded

SHARPNESS = 0.5  # gamma of Eq. 3
LEAST = 1e-6


class Divlad(Trained):
    """One vector of clusters x D numbers (Eqs. 2 to 6, SupScene).

    attention: the class token's row over the patches, as the paper has it, or the patches' column towards the
    class token, as its code has it; gate off: every head counts alike (the ablation of its Table IV).
    Raises ConfigError for a backbone without attention heads.
    """

    name = "divlad"
    defaults = {"clusters": 32, "attention": "row", "gate": True, "norm": "batch"}  # noqa: RUF012

    def __init__(
        self,
        shape: TokenShape,
        path: Path | None = None,
        clusters: int | None = None,
        attention: str | None = None,
        gate: bool | None = None,
        norm: str | None = None,
    ) -> None:
        self._begin(shape, path, clusters=clusters, attention=attention, gate=gate, norm=norm)
        if not shape.heads:
            raise ConfigError(
                "divlad weighs tokens by class attention, but the backbone gives none; use a ViT, or netvlad"
            )
        count = int(self.options["clusters"])
        self.dim = count * shape.dim
        with seeded():
            self.assign = nn.Linear(shape.dim, count, bias=False)  # a 1 x 1 convolution over the grid
            self.centres = nn.Parameter(nn.init.xavier_uniform_(torch.empty(count, shape.dim)))
        if self.options["gate"]:
            self.gate = nn.Parameter(torch.zeros(count, shape.heads))
        self.norm = nn.BatchNorm1d(self.dim) if self.options["norm"] == "batch" else nn.Identity()
        self._end(path)

    def forward(self, tokens: Tokens, side: Side = "gallery") -> Tensor:
        """(N, 1, dim) float32, unit rows. Raises ConfigError for Tokens without the attention asked for."""
        patches = tokens.patches.float()
        weights = self.assignment(tokens) * self.token_weights(tokens)  # (N, K, T)
        residuals = weights @ patches - weights.sum(2)[:, :, None] * self.centres  # Eq. 6
        vector = normalize(normalize(residuals, dim=2).flatten(1), dim=1)
        return normalize(self.norm(vector), dim=1)[:, None]

    def assignment(self, tokens: Tokens) -> Tensor:
        """(N, K, T): the share of each token that goes to each cluster; sums to one over K."""
        logits: Tensor = self.assign(tokens.patches.float())
        return logits.softmax(2).transpose(1, 2)

    def token_weights(self, tokens: Tokens) -> Tensor:
        """(N, K, T): m of Eq. 5, what each token counts for each cluster."""
        attention = self._attention(tokens)
        quality = token_quality(attention)
        if not self.options["gate"]:
            return quality.mean(1, keepdim=True).expand(-1, len(self.centres), -1)
        confidence = head_confidence(attention, quality)
        gates = softplus(self.gate)[None] * confidence[:, None] + LEAST  # Eq. 4: its softmax of a log
        return (gates / gates.sum(2, keepdim=True)) @ quality

    def _attention(self, tokens: Tokens) -> Tensor:
        row = self.options["attention"] == "row"
        found = tokens.attention if row else tokens.attention_column
        if found is None:
            raise ConfigError(
                f"divlad with attention = {self.options['attention']!r} needs a backbone that gives it; set "
                "attention_column = true in [backbone], or attention = 'row' here"
            )
        return found.float()


def token_quality(attention: Tensor) -> Tensor:
    """(N, H, T): w of Eq. 3, sigmoid of each head's standardised attention, to the power 0.5."""
    mean = attention.mean(2, keepdim=True)
    deviation = attention.std(2, keepdim=True).clamp(min=LEAST)
    return ((attention - mean) / deviation).sigmoid().pow(SHARPNESS)


def head_confidence(attention: Tensor, quality: Tensor) -> Tensor:
    """(N, H): s, the mean quality of a head times how far its attention is from even."""
    share = attention / (attention.sum(2, keepdim=True) + LEAST)
    entropy = -(share * share.clamp(min=1e-8).log()).sum(2) / math.log(max(attention.shape[2], 2))
    return (quality.mean(2) * (1 - entropy)).clamp(min=LEAST)
