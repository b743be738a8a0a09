"""A coordinate reference system as functions between longitude, latitude and its own plane, by PROJ."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

from crater_ray.errors import ReaderError

Floats = NDArray[np.float64]
_LONS = 7.3 + 30.0 * np.arange(12.0)  # probed; 7.3: where no projection is cut
_LATS = np.linspace(-80.0, 80.0, 9)
_CLOSE = 1e-9  # of a whole turn


@dataclass(frozen=True, slots=True)
class Straight:
    """A plane whose x is longitude and whose y is latitude, in other units."""

    lon: float  # degrees at x = 0
    lat: float  # degrees at y = 0
    per_lon: float  # x a degree
    per_lat: float  # y a degree


class Projection:
    """Longitudes and latitudes in degrees, latitudes as the CRS has them, to x and y, and back.

    Thread-safe: pyproj keeps a PROJ object a thread. Nothing is looked up on the network.
    """

    def __init__(self, wkt: str) -> None:
        """Raises ReaderError for a CRS that PROJ cannot use."""
        crs = CRS.from_wkt(wkt)
        ellipsoid = crs.ellipsoid
        if ellipsoid is None:
            raise ReaderError(f"PROJ knows no ellipsoid of the CRS {crs.name!r}; give option crs")
        a, b = ellipsoid.semi_major_metre, ellipsoid.semi_minor_metre or ellipsoid.semi_major_metre
        places = f"+proj=longlat +a={a!r} +b={b!r} +no_defs +type=crs"  # east of the body's own meridian
        try:
            pyproj.network.set_network_enabled(active=False)
            self._transformer = Transformer.from_crs(places, crs, always_xy=True)
        except ProjError as error:
            raise ReaderError(f"PROJ cannot use the CRS {crs.name!r}: {error}; give option crs") from None
        self._turned = crs.is_geographic and abs(self._forward(10.0, 0.0)[0]) < 1e-6  # latitude comes first

    def forward(self, lon: Any, lat: Any) -> tuple[Floats, Floats]:
        """x and y, NaN where the projection has none."""
        x, y = self._forward(lon, lat)
        return (y, x) if self._turned else (x, y)

    def inverse(self, x: Any, y: Any) -> tuple[Floats, Floats]:
        """Longitude and latitude, NaN off the globe. Where two places share a point it gives one of them."""
        lon, lat = self._transformer.transform(*((y, x) if self._turned else (x, y)), direction="INVERSE")
        return _finite(lon, lat)

    @cached_property
    def inverts(self) -> bool:
        """Whether PROJ has the inverse: of a few projections, such as Airy's, it has not."""
        x, y = self.forward(*(axis.ravel() for axis in np.meshgrid(_LONS, _LATS)))
        known = np.isfinite(x)
        return not known.any() or bool(np.isfinite(self.inverse(x[known], y[known])[0]).any())

    def _forward(self, lon: Any, lat: Any) -> tuple[Floats, Floats]:
        return _finite(*self._transformer.transform(lon, lat))

    @cached_property
    def turn(self) -> float | None:
        """x of a whole turn eastward, where x is longitude alone and y latitude alone; else None."""
        (x, y), (above, level) = (self.forward(_LONS, np.full(12, lat)) for lat in (0.0, 40.0))
        turn = 12.0 * float(np.median(np.diff(x)))
        if not (np.isfinite([x, y, above, level]).all() and turn):
            return None
        beside = (x - x[0]) / turn - (_LONS - _LONS[0]) / 360.0
        wrong = [beside - np.round(beside), (above - x) / turn, (y - y[0]) / turn, (level - level[0]) / turn]
        return turn if np.abs(wrong).max() < _CLOSE else None

    @cached_property
    def straight(self) -> Straight | None:
        """Where x is longitude and y latitude in other units: simple cylindrical."""
        if self.turn is None:
            return None
        x, y = self.forward(np.full(9, _LONS[0]), _LATS)
        per_lon, per_lat = self.turn / 360.0, float(y[-1] - y[0]) / 160.0
        if not per_lat or not np.abs(y - y[4] - per_lat * _LATS).max() < _CLOSE * abs(self.turn):
            return None
        lon, lat = _LONS[0] - float(x[0]) / per_lon, -float(y[4]) / per_lat
        return Straight(_whole(lon), _whole(lat), _whole(per_lon), _whole(per_lat))


@lru_cache(maxsize=64)
def projection(wkt: str) -> Projection:
    """The projection of a CRS, one a process."""
    return Projection(wkt)


def planetographic(lat: Floats, flattening: float) -> Floats:
    """Planetographic latitudes, degrees, of planetocentric ones."""
    tangent = np.tan(np.radians(lat)) / (1.0 - flattening) ** 2
    return np.asarray(np.degrees(np.arctan(tangent)), np.float64)


def planetocentric(lat: Floats, flattening: float) -> Floats:
    """Planetocentric latitudes, degrees, of planetographic ones."""
    tangent = np.tan(np.radians(lat)) * (1.0 - flattening) ** 2
    return np.asarray(np.degrees(np.arctan(tangent)), np.float64)


def _finite(x: Any, y: Any) -> tuple[Floats, Floats]:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    known = np.isfinite(x) & np.isfinite(y)
    return np.where(known, x, np.nan), np.where(known, y, np.nan)


def _whole(value: float) -> float:
    """Without what PROJ's radians leave behind a whole number."""
    return float(round(value)) if abs(value - round(value)) < 1e-9 else value
