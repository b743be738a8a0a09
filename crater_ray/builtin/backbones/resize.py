"""Pixels to the square a backbone takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

Resize = Literal["squash", "crop"]
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocess:
    """(H, W, 3) uint8 -> (3, size, size) float32, as the weights were trained to see it.

    squash: the whole image, straight to the square. Our views are square already, so nothing is squashed, and
    the ground around a crater is what tells it from the next one: a centre crop would throw it away. On
    photographs the borders are where two images overlap.
    crop: timm's evaluation transform, the shorter side to size / crop_pct, then the centre.
    """

    size: int
    resize: Resize
    crop_pct: float
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, image: np.ndarray[Any, Any]) -> Tensor:
        """Antialiased. Raises ValueError for another shape or type. Thread-safe."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"preprocess takes (H, W, 3) uint8, not {image.shape} {image.dtype}")
        pixels = self._cropped(image) if self.resize == "crop" else self._resized(image, self.size, self.size)
        planes = np.empty((3, self.size, self.size), np.float32)
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            np.multiply(pixels[:, :, channel], np.float32(1 / (255 * std)), out=planes[channel])
            planes[channel] -= np.float32(mean / std)
        return torch.from_numpy(planes)

    def _cropped(self, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        height, width = image.shape[:2]
        side = math.floor(self.size / self.crop_pct)
        ratio = side / min(height, width)
        pixels = self._resized(image, max(side, round(height * ratio)), max(side, round(width * ratio)))
        top, left = (round((length - self.size) / 2) for length in pixels.shape[:2])
        return pixels[top : top + self.size, left : left + self.size]

    def _resized(self, image: np.ndarray[Any, Any], height: int, width: int) -> np.ndarray[Any, Any]:
        if image.shape[:2] == (height, width):
            return image
        resampling = FILTERS.get(self.interpolation, Image.Resampling.BICUBIC)
        return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((width, height), resampling))
