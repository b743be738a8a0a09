"""SIFT as a backbone: local features of an image as tokens, so that late interaction compares them.

Not by pycolmap, which has SIFT too: its zlib and that of Pillow cannot be in one process.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from crater_ray.types import Tokens, TokenShape
from crater_ray_colmap import SiftOptions

DIM = 128
CONTRAST = 0.02  # that a point must have; OpenCV's own 0.04 leaves sand and sky without any


class Sift:
    """Backbone. Of each cell of the image the largest SIFT feature; a cell without one has no valid token.

    Tokens are RootSIFT (Arandjelović and Zisserman 2012): the square root of a descriptor over its sum. Cells
    divide the image's sides, whatever their ratio. The attention, of one head, is the feature's size over the
    picture's diagonal, 0 where there is none: aggregators that choose by attention choose large features.
    """

    def __init__(self, **options: Any) -> None:
        self.options = SiftOptions(**options)
        side = self.options.grid
        self.shape = TokenShape(DIM, (side, side), heads=1, cls=False)

    @property
    def digest(self) -> str:
        o = self.options
        return f"sift-2-{cv2.__version__}-{o.grid}-{o.image_size}-{o.features}"

    def preprocess(self, image: np.ndarray[Any, Any]) -> Tensor:
        """(H, W, 3) uint8 -> (3, S, S) float32: grey levels in its corner, then 1 where they are."""
        size = self.options.image_size
        grey = Image.fromarray(image).convert("L")
        if max(grey.size) > size:
            grey.thumbnail((size, size), Image.Resampling.LANCZOS)
        canvas = torch.zeros(3, size, size)
        canvas[0, : grey.height, : grey.width] = torch.from_numpy(np.asarray(grey, np.float32))
        canvas[1, : grey.height, : grey.width] = 1
        return canvas

    def __call__(self, images: Tensor) -> Tokens:
        """(N, 3, S, S) -> Tokens, on the images' device; the work is done on the CPU."""
        found = [self._features(image) for image in images.float().cpu().numpy()]
        patches, sizes = (torch.stack(some).to(images.device) for some in zip(*found, strict=True))
        return Tokens(patches, self.shape.grid, attention=sizes[:, None], valid=(patches != 0).any(-1))

    def _features(self, canvas: np.ndarray[Any, Any]) -> tuple[Tensor, Tensor]:
        """(T, 128) tokens and (T,) sizes of one image."""
        side = self.options.grid
        tokens, sizes = torch.zeros(side * side, DIM), torch.zeros(side * side)
        height, width = int(canvas[1].any(1).sum()), int(canvas[1].any(0).sum())
        if not height:  # an empty place of a batch
            return tokens, sizes
        grey = np.ascontiguousarray(canvas[0, :height, :width].round().clip(0, 255).astype(np.uint8))
        sift = cv2.SIFT.create(nfeatures=self.options.features, contrastThreshold=CONTRAST)
        points, descriptors = sift.detectAndCompute(grey, None)
        if descriptors is None:
            return tokens, sizes
        places = np.array([point.pt for point in points])
        large = np.array([point.size for point in points], np.float32)
        columns, rows = (places / (width, height) * side).astype(int).clip(0, side - 1).T
        order = np.argsort(-large, kind="stable")
        cells, first = np.unique((rows * side + columns)[order], return_index=True)
        kept = order[first]
        shares = descriptors[kept] / np.maximum(descriptors[kept].sum(1, keepdims=True), 1e-12)
        tokens[cells] = torch.from_numpy(np.sqrt(shares))
        sizes[cells] = torch.from_numpy(large[kept] / float(np.hypot(height, width)))
        return tokens, sizes
