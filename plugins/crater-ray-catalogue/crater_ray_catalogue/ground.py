"""A catalogue on its sphere, and planes that touch it: places as complex kilometres, east and north."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.crs import ProjectedCRS
from pyproj.crs.coordinate_operation import OrthographicConversion
from scipy.spatial import cKDTree

from crater_ray_catalogue.entries import Entries
from crater_ray_catalogue.proposals import unit
from crater_ray_mosaic.bodies import radius_km

Complex = NDArray[np.complex128]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Plane:
    """The orthographic plane that touches the body at (lat, lon)."""

    lat: float
    lon: float
    body: CRS

    @cached_property
    def crs(self) -> CRS:
        """In metres, as GIS programs read it."""
        conversion = OrthographicConversion(
            latitude_natural_origin=self.lat, longitude_natural_origin=self.lon
        )
        name = f"Orthographic about {self.lat:.4f}, {self.lon:.4f}"
        return ProjectedCRS(conversion, name=name, geodetic_crs=self.body)

    @cached_property
    def _transformer(self) -> Transformer:
        return Transformer.from_crs(self.body, self.crs, always_xy=True)

    def of(self, lat: Any, lon: Any) -> Complex:
        """Kilometres east + i north; NaN beyond the limb."""
        east, north = (np.asarray(one, float) for one in self._transformer.transform(lon, lat))
        seen = np.isfinite(east) & np.isfinite(north)
        return np.where(seen, east, np.nan) / 1000.0 + 1j * np.where(seen, north, np.nan) / 1000.0

    def back(self, place: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Latitude and longitude, degrees; NaN off the body's disc."""
        place = np.asarray(place) * 1000.0
        lon, lat = self._transformer.transform(place.real, place.imag, direction="INVERSE")
        lat, lon = np.asarray(lat, float), np.asarray(lon, float)
        seen = np.isfinite(lat) & np.isfinite(lon)
        return np.where(seen, lat, np.nan), np.where(seen, lon, np.nan)


@dataclass(frozen=True)
class Ground:
    """N entries of a catalogue."""

    entries: Entries
    body: CRS

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def radius(self) -> float:
        return radius_km(self.body)

    @cached_property
    def diameter(self) -> NDArray[np.float64]:
        return self.entries.places.diameter

    @cached_property
    def spots(self) -> NDArray[np.float64]:
        """(N, 3) on the unit sphere."""
        return unit(self.entries.places)

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.spots)

    def near(self, lat: float, lon: float, kilometres: float) -> Ints:
        """Rows within a distance of a place, in row order."""
        place = _unit(lat, lon)
        chord = 2 * np.sin(min(kilometres / self.radius, np.pi) / 2)
        return np.asarray(sorted(self._tree.query_ball_point(place, chord)), np.int64)

    def about(self, row: int, kilometres: float) -> tuple[Ints, Complex]:
        """Rows within a distance of an entry, and where they lie on the plane that touches there.

        As Plane.of, for one entry after the other without building a projection for each.
        """
        lat, lon = (float(values[row]) for values in (self.entries.places.lat, self.entries.places.lon))
        rows = self.near(lat, lon, min(kilometres, 0.8 * self.radius))
        phi, away = np.radians(lat), np.radians(lon)
        east = np.array([-np.sin(away), np.cos(away), 0.0])
        north = np.array([-np.sin(phi) * np.cos(away), -np.sin(phi) * np.sin(away), np.cos(phi)])
        spots = self.spots[rows]
        return rows, self.radius * (spots @ east + 1j * (spots @ north))


def _unit(lat: float, lon: float) -> NDArray[np.float64]:
    phi, away = np.radians(lat), np.radians(lon)
    return np.array([np.cos(phi) * np.cos(away), np.cos(phi) * np.sin(away), np.sin(phi)])
