"""An image's patches as aggregators read them: those that stand for nothing are zeros, whatever they hold."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from crater_ray.types import Tokens


def there(tokens: Tokens) -> Tensor:
    """(N, T, D) float32, zeros where a patch is not present."""
    return tokens.patches.float().masked_fill(~tokens.present[:, :, None], 0.0)


def unit(tokens: Tokens) -> Tensor:
    """(N, T, D) float32 unit rows, zeros where a patch is not present."""
    return normalize(there(tokens), dim=-1)
