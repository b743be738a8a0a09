"""The coordinate system of a body, as the IAU defines it and PROJ knows it."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache

from pyproj import CRS
from pyproj.database import query_crs_info

from crater_ray.errors import UserError

AUTHORITY = "IAU_2015"


def system(body: str) -> CRS:
    """Geographic coordinates on the body's sphere, degrees. Raises UserError for one PROJ does not know."""
    known = _spheres()
    name = body.strip().lower() or "moon"
    if name not in known:
        close = get_close_matches(name, known, 1)
        raise UserError(
            f"PROJ has no sphere of body {body!r}"
            + (
                f"; did you mean {close[0]!r}?"
                if close
                else "; give option body the name of a planet or moon"
            )
        )
    return CRS.from_authority(AUTHORITY, known[name])


def radius_km(crs: CRS) -> float:
    ellipsoid = crs.ellipsoid
    if ellipsoid is None:
        raise UserError(f"{crs.name} has no ellipsoid; give another body")
    return float(ellipsoid.semi_major_metre) / 1000.0


@cache
def _spheres() -> dict[str, str]:
    """Body in small letters -> code."""
    found: dict[str, str] = {}
    for info in query_crs_info(auth_name=AUTHORITY, pj_types="GEOGRAPHIC_2D_CRS"):
        body, bracket, rest = info.name.partition(" (2015)")
        if bracket and "Sphere" in rest and "Ocentric" in rest:
            found.setdefault(body.lower(), info.code)
    return found
