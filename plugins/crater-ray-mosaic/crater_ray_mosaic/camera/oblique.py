"""The ground seen from the side: what is high is displaced, and hides what lies behind it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

Array = NDArray[np.float32]


def oblique(
    light: Array, height: Array, spacing: float, tilt: float, size: int
) -> tuple[Array, NDArray[np.bool_]]:
    """What a far camera tilted toward the lower side sees: (size, size), and where it sees nothing.

    light (S, S) or (S, S, 3) and height (S, S) metres on the ground, of one middle; spacing metres a pixel,
    tilt degrees, size <= S. A place z above the middle and s behind it is seen s cos(tilt) + z sin(tilt) up
    in the image. Of two places seen there, the nearer one is.
    """
    t = math.radians(tilt)
    high, wide = height.shape
    known = np.isfinite(height) & np.isfinite(light).reshape(high, wide, -1).all(axis=2)
    relief = np.where(known, height, np.mean(height[known]) if known.any() else 0.0)[::-1] / spacing
    centre = relief[high // 2, wide // 2]
    behind = np.arange(high)[:, None] - (high - 1) / 2.0  # from the front, the image's last row, on
    seen = np.maximum.accumulate(behind * math.cos(t) + (relief - centre) * math.sin(t), axis=0)
    seen += 1e-6 * np.arange(high)[:, None]  # np.interp asks for a rise
    wanted, left = np.arange(size) - (size - 1) / 2.0, (wide - size) // 2
    rows = np.stack([_crossing(wanted, seen[:, left + one]) for one in range(size)], axis=1)
    off = np.isnan(rows)
    at = np.stack([np.where(off, 0.0, rows), np.broadcast_to(np.arange(size) + float(left), rows.shape)])

    def sampled(plane: Any) -> Any:
        return map_coordinates(plane[::-1].astype(np.float32), at, order=1, mode="nearest")[::-1]

    off = off[::-1] | (sampled(known) < 0.999)
    if light.ndim == 2:
        return sampled(np.where(known, light, 0.0)), off
    bands = [sampled(np.where(known, light[..., band], 0.0)) for band in range(light.shape[2])]
    return np.stack(bands, axis=2), off


def _crossing(wanted: Any, seen: Any) -> Any:
    """At which fractional row of the ground each height in the image is seen; NaN: beyond the ground."""
    return np.interp(wanted, seen, np.arange(len(seen)), left=np.nan, right=np.nan)
