"""Backbone `difference_of_gaussians`: band-passed grey values as one token; nothing is learned.

Under a high sun an optical image has no shadows, and steep crater walls are bright: it resembles a map of
slope, not of shading. The difference of two Gaussian blurs removes tone, and clipping limits bright rays and
rims. The cosine of two tokens is then a normalised cross-correlation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from crater_ray.types import Tokens, TokenShape
from crater_ray_catalogue import DifferenceOfGaussiansOptions

FINE, COARSE = 1 / 48, 1 / 8  # standard deviations of the two Gaussians, in sides
CLIP = 2.5  # standard deviations


class DifferenceOfGaussians:
    """Backbone. One token an image, its class token the same: size² numbers of length 1."""

    def __init__(self, **options: Any) -> None:
        self.size = DifferenceOfGaussiansOptions(**options).size
        self.shape = TokenShape(self.size**2, (1, 1), heads=0, cls=True)

    @property
    def digest(self) -> str:
        return f"difference-of-gaussians-{self.size}-1"

    def preprocess(self, image: np.ndarray[Any, Any]) -> Tensor:
        """(H, W, 3) uint8 -> (3, size, size) float32, three equal channels."""
        grey = Image.fromarray(image.mean(2).astype(np.float32))
        small = np.asarray(grey.resize((self.size, self.size), Image.Resampling.BOX), np.float32)
        band = gaussian_filter(small, FINE * self.size) - gaussian_filter(small, COARSE * self.size)
        limit = CLIP * float(band.std())
        band = np.clip(band, -limit, limit)
        return torch.from_numpy(np.repeat((band - band.mean())[None], 3, axis=0))

    def __call__(self, images: Tensor) -> Tokens:
        """(N, 3, size, size) -> Tokens."""
        token = torch.nn.functional.normalize(images[:, 0].flatten(1).float(), dim=1)
        return Tokens(token[:, None], self.shape.grid, token)
