"""The view's own grid: orthographic about its centre, so that a crater is round at any latitude.

Snyder, Map Projections: A Working Manual (USGS Professional Paper 1395), eqs. 20-14, 20-15, 20-18, without
the division by rho that fails at the centre.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crater_ray_mosaic.pose import Pose


def orthographic(
    pose: Pose, size: int, radius_km: float, margin: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latitude and longitude east of the view's own, degrees, at pixel centres.

    Two (size + 2 margin)² arrays, row 0 on top, the margin outside the view; NaN beyond the limb.
    """
    step = 2.0 * pose.half_width_km / size / radius_km
    across = (np.arange(size + 2 * margin) - (size - 1) / 2.0 - margin) * step
    right, up = across[None, :], -across[:, None]
    turn = math.radians(pose.rotation)
    east = right * math.cos(turn) + up * math.sin(turn)
    north = up * math.cos(turn) - right * math.sin(turn)
    toward = 1.0 - (east * east + north * north)
    toward = np.sqrt(np.where(toward > 0.0, toward, np.nan))
    sine, cosine = math.sin(math.radians(pose.lat)), math.cos(math.radians(pose.lat))
    lat = np.degrees(np.arcsin(np.clip(toward * sine + north * cosine, -1.0, 1.0)))
    lon = np.degrees(np.arctan2(east, toward * cosine - north * sine))
    return lat, lon
