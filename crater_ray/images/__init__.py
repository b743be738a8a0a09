"""Encoded images to pixels: the one decoder of the product, for its rooms and for plugins.

pixels          bytes or an array -> (H, W, 3) uint8, what a backbone sees
grey            bytes -> (H, W) float32 in the image's own depth, NaN where it shows nothing
orientation     bytes -> how the image is turned upright; turned -> an array turned so
known           whether the first bytes are of a format that is decoded here
Rule, measured  which samples of a raster are measurements, and which stand for "no data"
"""

from __future__ import annotations

from crater_ray.images.decode import grey, pixels
from crater_ray.images.formats import known, orientation, turned
from crater_ray.images.measured import Rule, measured

__all__ = ["Rule", "grey", "known", "measured", "orientation", "pixels", "turned"]
