"""A backbone: pixels to Tokens, here without weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad, pixel_unshuffle

from crater_ray.errors import ConfigError
from crater_ray.types import Tokens, TokenShape


class Grid:
    """A token is the 2 x 2 mean colours of its cell, so 12 numbers, and a constant."""

    def __init__(self, grid: int, image_size: int) -> None:
        if image_size % (2 * grid):
            raise ConfigError(f"template_grid: image_size {image_size} is no multiple of twice grid {grid}")
        self.grid, self.image_size = grid, image_size

    @property
    def shape(self) -> TokenShape:
        return TokenShape(dim=13, grid=(self.grid, self.grid), heads=0, cls=False)

    @property
    def digest(self) -> str:
        """Of the weights; without any, of what the numbers depend on."""
        return f"template-grid-1-{self.grid}-{self.image_size}"

    def preprocess(self, image: np.ndarray[Any, Any]) -> Tensor:
        """(H, W, 3) uint8 -> (3, S, S) float32 in -1..1. Many threads call this at once."""
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 127.5 - 1
        size = (self.image_size, self.image_size)
        return interpolate(pixels[None], size, mode="bilinear", antialias=True, align_corners=False)[0]

    def __call__(self, images: Tensor) -> Tokens:
        """(N, 3, S, S) -> Tokens."""
        colours = avg_pool2d(images, self.image_size // (2 * self.grid))
        cells = pixel_unshuffle(colours, 2)  # (N, 12, grid, grid)
        patches = cells.flatten(2).transpose(1, 2)
        patches = pad(patches, (0, 1), value=0.1)  # so that a grey cell has a direction too
        return Tokens(patches, (self.grid, self.grid))
