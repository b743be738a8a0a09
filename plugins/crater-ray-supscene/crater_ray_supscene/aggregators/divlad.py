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
from crater_ray_supscene.aggregators.validity import of_some, of_valid, patches_of

SHARPNESS = 0.5  # gamma of Eq. 3
LEAST = 1e-6


class Divlad(Trained):
    """One vector of clusters x D numbers (Eqs. 2 to 6, SupScene).

    attention: the class token's row over the patches, as the paper has it, or the patches' column towards the
    class token, as its code has it; gate off: every head counts alike (the ablation of its Table IV).
    Its spec says that it needs attention.
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
        count = int(self.options["clusters"])
        self.dim = count * shape.dim
        with seeded(0):
            self.assign = nn.Linear(shape.dim, count, bias=False)  # a 1 x 1 convolution over the grid
            self.centres = nn.Parameter(nn.init.xavier_uniform_(torch.empty(count, shape.dim)))
        if self.options["gate"]:
            self.gate = nn.Parameter(torch.zeros(count, shape.heads))
        self.norm = nn.BatchNorm1d(self.dim) if self.options["norm"] == "batch" else nn.Identity()
        self._end(path)

    def forward(self, tokens: Tokens, side: Side = "gallery") -> Tensor:
        """(N, 1, dim) float32, unit rows. Raises ConfigError for Tokens without the attention asked for."""
        patches = patches_of(tokens)
        weights = self.assignment(tokens) * self.token_weights(tokens)  # (N, K, T)
        residuals = weights @ patches - weights.sum(2)[:, :, None] * self.centres  # Eq. 6
        vector = normalize(normalize(residuals, dim=2).flatten(1), dim=1)
        return of_some(normalize(self.norm(vector), dim=1), tokens)[:, None]

    def assignment(self, tokens: Tokens) -> Tensor:
        """(N, K, T): the share of each valid token that goes to each cluster; sums to one over K."""
        logits: Tensor = self.assign(patches_of(tokens))
        return of_valid(logits.softmax(2), tokens).transpose(1, 2)

    def token_weights(self, tokens: Tokens) -> Tensor:
        """(N, K, T): m of Eq. 5, what each token counts for each cluster."""
        attention = self._attention(tokens)
        quality = token_quality(attention, tokens.valid)
        if not self.options["gate"]:
            return quality.mean(1, keepdim=True).expand(-1, len(self.centres), -1)
        confidence = head_confidence(attention, quality, tokens.valid)
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
        attention = found.float()
        return attention if tokens.valid is None else attention.masked_fill(~tokens.valid[:, None], 0.0)


def token_quality(attention: Tensor, valid: Tensor | None = None) -> Tensor:
    """(N, H, T): w of Eq. 3, sigmoid of each head's standardised attention, to the power 0.5.

    Mean and deviation are of the tokens that are valid (N, T).
    """
    if valid is None:
        mean = attention.mean(2, keepdim=True)
        deviation = attention.std(2, keepdim=True).clamp(min=LEAST)
    else:
        counts = valid.sum(1)[:, None, None]
        mean = (attention * valid[:, None]).sum(2, keepdim=True) / counts.clamp(min=1)
        squares = ((attention - mean).square() * valid[:, None]).sum(2, keepdim=True)
        deviation = (squares / (counts - 1).clamp(min=1)).sqrt().clamp(min=LEAST)
    return ((attention - mean) / deviation).sigmoid().pow(SHARPNESS)


def head_confidence(attention: Tensor, quality: Tensor, valid: Tensor | None = None) -> Tensor:
    """(N, H): s, the mean quality of a head times how far its attention is from even, over valid tokens."""
    share = attention / (attention.sum(2, keepdim=True) + LEAST)
    entropy = -(share * share.clamp(min=1e-8).log()).sum(2)
    if valid is None:
        return (quality.mean(2) * (1 - entropy / math.log(max(attention.shape[2], 2)))).clamp(min=LEAST)
    counts = valid.sum(1, keepdim=True)  # (N, 1)
    mean = (quality * valid[:, None]).sum(2) / counts.clamp(min=1)
    return (mean * (1 - entropy / counts.clamp(min=2).log())).clamp(min=LEAST)
