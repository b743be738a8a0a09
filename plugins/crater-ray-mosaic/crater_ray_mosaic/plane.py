"""A raster that is not simple cylindrical: where a place lies among its pixels, through PROJ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crater_ray_mosaic.projection import Floats, Projection, planetocentric, planetographic, projection

NEAR = 1e-4  # radians: how far a place may come back from where it was sent, and step of derivatives


@dataclass(frozen=True, slots=True)
class Plane:
    """A raster on the plane of its CRS. Pixel k has its centre at k, in rows and columns."""

    crs: str  # WKT
    transform: tuple[float, float, float, float, float, float]  # pixel corners to x and y, as Affine has them
    width: int
    height: int
    flattening: float  # of the body, where its latitudes are planetocentric and the CRS's are not

    @property
    def projection(self) -> Projection:
        return projection(self.crs)

    @property
    def turn(self) -> float:
        """Columns of a whole turn, where columns run along the equator; else none are enough."""
        turn, (a, b, _, d, _, _) = self.projection.turn, self.transform
        return abs(turn / a) if turn and not b and not d else math.inf

    def pixels(self, lats: Floats, lons: Floats, near: float | None = None) -> tuple[Floats, Floats]:
        """Rows and columns of places, NaN where the projection has none.

        Of a cylindrical projection, the turn of each nearest the raster's middle; with `near`, a longitude,
        the turn nearest to where that lies, so that a view has no seam.
        """
        project = self.projection
        x, y = project.forward(lons, planetographic(lats, self.flattening) if self.flattening else lats)
        if turn := project.turn:
            centre = float(self._xy(self.height / 2 - 0.5, self.width / 2 - 0.5)[0])
            if near is not None:
                here = float(project.forward(near, 0.0)[0])
                centre = here + round((centre - here) / turn) * turn
            x = x - np.round((x - centre) / turn) * turn
        a, b, c, d, e, f = self.transform
        area, x, y = a * e - b * d, x - c, y - f
        return (a * y - d * x) / area - 0.5, (e * x - b * y) / area - 0.5

    def places(self, rows: Any, columns: Any) -> tuple[Floats, Floats]:
        """Latitudes and longitudes of fractional rows and columns; NaN off the globe."""
        x, y = self._xy(rows, columns)
        lons, lats = self.projection.inverse(x, y)
        back = self.projection.forward(lons, lats)
        a, b, _, d, e, _ = self.transform
        step, turn = math.sqrt(abs(a * e - b * d)), self.projection.turn
        away = back[0] - x
        away = away - np.round(away / turn) * turn if turn else away
        found = (np.abs(away) < 0.5 * step) & (np.abs(back[1] - y) < 0.5 * step)  # NaN: not found
        if self.flattening:
            lats = planetocentric(lats, self.flattening)
        return np.where(found, lats, np.nan), np.where(found, lons, np.nan)

    def _xy(self, rows: Any, columns: Any) -> tuple[Floats, Floats]:
        a, b, c, d, e, f = self.transform
        rows, columns = np.asarray(rows, np.float64) + 0.5, np.asarray(columns, np.float64) + 0.5
        return a * columns + b * rows + c, d * columns + e * rows + f

    def holds(self, lats: Floats, lons: Floats) -> NDArray[np.bool_]:
        """Whether places lie within the raster, and come back from there: no projection is good everywhere.

        Or less than a pixel outside: maps of the whole globe end in the middle of one.
        """
        rows, columns = self.pixels(lats, lons)
        inside = (rows > -1.5) & (rows < self.height + 0.5)
        if self.width <= self.turn - 1.0:
            inside &= (columns > -1.5) & (columns < self.width + 0.5)
        lon, lat = self.projection.inverse(*self._xy(rows, columns))
        lat = planetocentric(lat, self.flattening) if self.flattening else lat
        away = np.linalg.norm(vectors(lat, lon) - vectors(lats, lons), axis=0)
        return np.asarray(inside & ~(away >= NEAR), np.bool_)  # NaN: on the very edge of the projection

    def pixel_radians(self, lats: Floats, lons: Floats) -> Floats:
        """The side of a square as large as a pixel at places, radians of the body; NaN where none is."""
        out, phi, lam = vectors(lats, lons), np.radians(lats), np.radians(lons)
        east = np.stack([-np.sin(lam), np.cos(lam), np.zeros_like(lam)])
        north = np.stack([-np.sin(phi) * np.cos(lam), -np.sin(phi) * np.sin(lam), np.cos(phi)])
        slopes = []
        for along in (east, north):
            ends = []
            for side in (-0.5, 0.5):
                x, y, z = out + side * NEAR * along
                at = self.pixels(np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x)))
                ends.append(np.stack(at))
            slopes.append((ends[1] - ends[0]) / NEAR)
        (a, c), (b, d) = slopes
        area = np.abs(a * d - b * c)
        return np.asarray(1.0 / np.sqrt(np.where(area > 0, area, np.nan)), np.float64)

    def off_globe(self, rows: Floats, columns: Floats) -> NDArray[np.bool_] | None:
        """(h, w) which of the points rows (h,) by columns (w,) are off the globe; None: none of them.

        A projection's outline is convex, so that a window whose border is on the globe is whole.
        """
        if self.projection.turn:
            return None
        border = (
            np.r_[np.full_like(columns, rows[0]), np.full_like(columns, rows[-1]), rows, rows],
            np.r_[columns, columns, np.full_like(rows, columns[0]), np.full_like(rows, columns[-1])],
        )
        if np.isfinite(self.places(*border)[0]).all():
            return None
        return np.isnan(self.places(*np.meshgrid(rows, columns, indexing="ij"))[0])


def vectors(lats: Any, lons: Any) -> Floats:
    """(3, …) unit vectors of places."""
    phi, lam = np.radians(np.asarray(lats, np.float64)), np.radians(np.asarray(lons, np.float64))
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)])
