"""Which catalogue craters a view shows: centre inside it, and neither too small nor too large to be told."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crater_ray_mosaic.catalogue import Catalogue
from crater_ray_mosaic.pose import Pose


class CoVisible:
    """Answers for any number of views; sorts the catalogue by latitude once."""

    def __init__(self, catalogue: Catalogue, radius_km: float, sizeable: tuple[float, float]) -> None:
        order = np.argsort(catalogue.lat, kind="stable")
        self._ids = [catalogue.ids[row] for row in order]
        self._lat, self._lon, self._diameter = (
            values[order] for values in (catalogue.lat, catalogue.lon, catalogue.diameter)
        )
        self._radius_km, self._sizeable = radius_km, sizeable

    def ids(self, pose: Pose) -> list[str]:
        """Ids of the craters a view shows, sorted; its own among them where it fits."""
        return sorted(self._ids[row] for row in self._rows(pose)[0])

    def circles(self, pose: Pose) -> list[tuple[float, float, float]]:
        """The same craters as (x, y, radius) in shares of the view's side from its upper left."""
        rows, x, y = self._rows(pose)
        half = pose.half_width_km
        return [
            (float(0.5 + a / 2), float(0.5 - b / 2), float(self._diameter[row] / half / 4))
            for row, a, b in zip(rows, x, y, strict=True)
        ]

    def _rows(self, pose: Pose) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        width = 2 * pose.half_width_km
        reach = math.degrees(math.asin(min(1.0, math.sqrt(2) * pose.half_width_km / self._radius_km))) + 1e-9
        first, last = np.searchsorted(self._lat, (pose.lat - reach, pose.lat + reach), side="left")
        low, high = self._sizeable
        diameter = self._diameter[first:last]
        rows = first + np.flatnonzero((diameter >= low * width) & (diameter <= high * width))
        x, y = project(pose, self._lat[rows], self._lon[rows], self._radius_km)
        seen = (np.abs(x) <= 1) & (np.abs(y) <= 1)
        return rows[seen], x[seen], y[seen]


def project(
    pose: Pose, lat: NDArray[np.float64], lon: NDArray[np.float64], radius_km: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places in a view, right and up of its centre: -1..1 inside, NaN on the far side (Snyder 20-3, 20-4)."""
    phi, away = np.radians(lat), np.radians(lon - pose.lon)
    sine, cosine = math.sin(math.radians(pose.lat)), math.cos(math.radians(pose.lat))
    east = np.cos(phi) * np.sin(away)
    north = cosine * np.sin(phi) - sine * np.cos(phi) * np.cos(away)
    near = sine * np.sin(phi) + cosine * np.cos(phi) * np.cos(away) > 0
    turn, unit = math.radians(pose.rotation), radius_km / pose.half_width_km
    right, up = east * math.cos(turn) - north * math.sin(turn), east * math.sin(turn) + north * math.cos(turn)
    return np.where(near, right * unit, np.nan), np.where(near, up * unit, np.nan)
