"""The backbone `walls`: what an optical image and a map of slopes have in common; nothing is learnt.

Without shadows a crater's walls are bright, since what slides down them is fresh: the image looks like the
steepness of the relief and not like its shading. One token: the picture's greys between two widths of blur,
so that tone counts for nothing, with bright rays and rims held back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from crater_ray.types import Tokens, TokenShape
from crater_ray_catalogue import WallsOptions

FINE, COARSE = 1 / 48, 1 / 8  # of the side: blurs whose difference is kept
HELD = 2.5  # standard deviations, beyond which a pixel counts no more


class Walls:
    """Backbone. One token an image, its class token the same: size² numbers of length 1."""

    def __init__(self, **options: Any) -> None:
        self.size = WallsOptions(**options).size
        self.shape = TokenShape(self.size**2, (1, 1), heads=0, cls=True)

    @property
    def digest(self) -> str:
        return f"walls-{self.size}-1"

    def preprocess(self, image: np.ndarray[Any, Any]) -> Tensor:
        """(H, W, 3) uint8 -> (3, size, size) float32, three times the same."""
        grey = Image.fromarray(image.mean(2).astype(np.float32))
        small = np.asarray(grey.resize((self.size, self.size), Image.Resampling.BOX), np.float32)
        between = gaussian_filter(small, FINE * self.size) - gaussian_filter(small, COARSE * self.size)
        most = HELD * float(between.std())
        between = np.clip(between, -most, most)
        return torch.from_numpy(np.repeat((between - between.mean())[None], 3, axis=0))

    def __call__(self, images: Tensor) -> Tokens:
        """(N, 3, size, size) -> Tokens."""
        token = torch.nn.functional.normalize(images[:, 0].flatten(1).float(), dim=1)
        return Tokens(token[:, None], self.shape.grid, token)
