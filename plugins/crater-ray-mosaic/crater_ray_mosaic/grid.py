"""The view's own grid: orthographic about its centre, so that a crater is round at any latitude.

Snyder, Map Projections: A Working Manual (USGS Professional Paper 1395), eqs. 20-14, 20-15, 20-18, without
the division by rho that fails at the centre. At a pole north is along the view's own meridian: up is the
meridian lon + 180 at the north pole, and lon at the south pole.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crater_ray_mosaic.pose import Pose


def orthographic(
    pose: Pose, size: int, radius_km: float, margin: int = 0, flattening: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latitude and longitude east of the view's own, degrees, at pixel centres.

    Two (size + 2 margin)² arrays, row 0 on top, the margin outside the view; NaN beyond the limb. With a
    flattening the plane touches an ellipsoid of that radius at its equator; latitudes are planetocentric.
    """
    step = 2.0 * pose.half_width_km / size / radius_km
    across = (np.arange(size + 2 * margin) - (size - 1) / 2.0 - margin) * step
    right, up = across[None, :], -across[:, None]
    turn = math.radians(pose.rotation)
    east = right * math.cos(turn) + up * math.sin(turn)
    north = up * math.cos(turn) - right * math.sin(turn)
    if flattening:
        return _on_ellipsoid(math.radians(pose.lat), east, north, 1.0 - flattening)
    toward = 1.0 - (east * east + north * north)
    toward = np.sqrt(np.where(toward > 0.0, toward, np.nan))
    sine, cosine = math.sin(math.radians(pose.lat)), math.cos(math.radians(pose.lat))
    lat = np.degrees(np.arcsin(np.clip(toward * sine + north * cosine, -1.0, 1.0)))
    lon = np.degrees(np.arctan2(east, toward * cosine - north * sine))
    return lat, lon


def _on_ellipsoid(
    phi: float, east: NDArray[np.float64], north: NDArray[np.float64], polar: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same for semi-axes 1, 1, polar: lines along the normal at the centre, met with the ellipsoid."""
    distance = polar / math.hypot(polar * math.cos(phi), math.sin(phi))  # of the centre from the body's
    x_0, z_0 = distance * math.cos(phi), distance * math.sin(phi)
    normal = math.atan2(z_0 / polar**2, x_0)  # planetographic latitude
    sine, cosine = math.sin(normal), math.cos(normal)
    x, y, z = x_0 - north * sine, east, z_0 + north * cosine  # on the plane, east of the centre's meridian
    a = cosine**2 + (sine / polar) ** 2
    b = x * cosine + z * sine / polar**2
    c = x * x + y * y + (z / polar) ** 2 - 1.0
    root = b * b - a * c
    along = (np.sqrt(np.where(root > 0.0, root, np.nan)) - b) / a
    x, z = x + along * cosine, z + along * sine
    return np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))
