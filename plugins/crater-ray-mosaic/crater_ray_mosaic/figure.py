"""How large a body is, out of everything that is said of it: options, the raster's CRS, the IAU.

Statements that disagree are an error that names both. One label is common by habit, so it yields: Earth's CRS
of a map of another body in degrees.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyproj import CRS

from crater_ray.errors import ReaderError
from crater_ray_mosaic.bodies import radii_km

if TYPE_CHECKING:
    from crater_ray_mosaic.raster import Raster

TOLERANCE = 0.01  # between two radii of one body: a mean, an equatorial and a local one differ by less
LARGEST_KM = 6500.0  # Earth has the largest solid surface


@dataclass(frozen=True, slots=True)
class Figure:
    """A body's size."""

    radius_km: float  # at the equator, of an ellipsoid
    flattening: float = 0.0  # of the ellipsoid whose planetographic latitudes the CRS uses; 0: a sphere's


@dataclass(frozen=True, slots=True)
class Statement:
    """That a body has a radius, from its least to its largest, and where that is said."""

    where: str  # as radius_km = 1737.4
    radius_km: float
    least_km: float
    most_km: float

    def agrees(self, other: Statement) -> bool:
        least, most = max(self.least_km, other.least_km), min(self.most_km, other.most_km)
        return least * (1.0 - TOLERANCE) <= most

    def __str__(self) -> str:
        return f"{self.where} ({self.radius_km:g} km)"


def of_body(body: str, where: str = "") -> Statement | None:
    """What a body's name says, None where the IAU has no such body. where: in place of `body = "…"`."""
    radii = radii_km(body)
    return Statement(where or f'body = "{body}"', *radii) if radii else None


def of_crs(crs: CRS, name: str) -> Statement | None:
    """What a CRS says, None where it has no ellipsoid. name: of the file that carries it, or the option."""
    ellipsoid = crs.ellipsoid
    if ellipsoid is None:
        return None
    axes = ellipsoid.semi_major_metre / 1000.0, (ellipsoid.semi_minor_metre or 0.0) / 1000.0
    return Statement(f"the CRS of {name}, {crs.name!r}", axes[0], axes[1] or axes[0], axes[0])


def of_raster(raster: Raster) -> Statement:
    """What a raster was opened with: to be compared with that of another."""
    radius = raster.frame.radius_km
    return Statement(f"raster {raster.path.name}", radius, radius, radius)


def compare(*statements: Statement | None) -> None:
    """Raises ReaderError naming the first two statements that disagree by more than 1 %."""
    known = [one for one in statements if one]
    for number, one in enumerate(known):
        for other in known[:number]:
            if not one.agrees(other):
                raise ReaderError(f"{other} and {one} disagree about the body's radius; correct one of them")


def figure_of(
    name: str, crs: CRS | None, body: Statement | None = None, radius_km: float | None = None
) -> Figure:
    """The figure that a raster's CRS, its body and option radius_km agree on.

    The radius is radius_km, else the CRS's, else the body's. Where body and radius_km agree, or where a CRS
    in degrees is Earth's, the CRS counts for its coordinates alone, and its latitudes for the body's own.
    Raises ReaderError where two statements differ by more than 1 %, or where there is none.
    """
    if radius_km and radius_km > LARGEST_KM:
        raise ReaderError(
            f"radius_km = {radius_km:.10g} is larger than any body with a solid surface; it is in kilometres"
            f" ({radius_km / 1000.0:g} if that were metres)"
        )
    said = Statement(f"radius_km = {radius_km:.10g}", radius_km, radius_km, radius_km) if radius_km else None
    compare(body, said)
    own = of_crs(crs, name) if crs is not None else None
    if crs is None or own is None:
        radius = radius_km or (body.radius_km if body else None)
        if radius is None:
            raise ReaderError(f"{name} does not say how large its body is; give body or radius_km")
        return Figure(radius)
    earth = of_body("earth")
    earthly = earth is not None and own.agrees(earth)
    if (said or body) and not all(own.agrees(one) for one in (said, body) if one):
        if not (said and body) and not (earthly and crs.is_geographic):
            raise ReaderError(
                f"{own} and {said or body} disagree about the body's radius. Correct one of them, give "
                "option crs in place of the raster's, or give both body and radius_km to use it for its "
                "coordinates alone"
            )
        warnings.warn(
            f"{own} is used for its coordinates alone; the radius is that of {said or body}", stacklevel=2
        )
        return Figure(radius_km or (body.radius_km if body else own.radius_km))
    flat = 1.0 - own.least_km / own.most_km
    # Earth's latitudes are planetographic in every list and map, so there is nothing to convert
    return Figure(radius_km or own.radius_km, 0.0 if earthly or abs(flat) < 1e-9 else flat)
