"""The coordinate system and the size of a body, as the IAU defines them and PROJ knows them."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import cache

from pyproj import CRS
from pyproj.database import query_crs_info

from crater_ray.errors import UserError

AUTHORITY = "IAU_2015"
NAMED = 0.01  # of a radius, within which a body that a text names is believed
ALIKE = 0.001  # of a radius, within which it tells the body by itself


def system(body: str) -> CRS:
    """Geographic coordinates on the body's sphere, degrees. Raises UserError for one PROJ does not know."""
    if not body.strip():
        raise UserError("no body is named; give option body the name of a planet or moon")
    known = _codes("Sphere / Ocentric")
    name = body.strip().lower()
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
def radii_km(body: str) -> tuple[float, float, float] | None:
    """The radius of a body's sphere, the least and the largest radius, kilometres; None: the IAU has none."""
    name = body.strip().lower()
    kinds = ("Sphere / Ocentric", "Ographic")
    found = [CRS.from_authority(AUTHORITY, _codes(kind)[name]) for kind in kinds if name in _codes(kind)]
    if not found:
        return None
    ellipsoids = [crs.ellipsoid for crs in found if crs.ellipsoid]
    axes = [axis / 1000.0 for e in ellipsoids for axis in (e.semi_major_metre, e.semi_minor_metre) if axis]
    return radius_km(found[0]), min(axes), max(axes)


def body_of(radius_km: float, *texts: str) -> str:
    """The body of that radius, in small letters: one that a text names, else the only one; empty: neither.

    texts: such as the names of a CRS and of its datum.
    """
    words = " " + re.sub(r"[^a-z0-9]+", " ", " ".join(texts).lower()) + " "
    for slack, among in ((NAMED, [one for one in _bodies() if f" {one} " in words]), (ALIKE, _bodies())):
        found = [one for one in among if _within(radius_km, one, slack)]
        if len(found) == 1:
            return found[0]
    return ""


def _within(radius_km: float, body: str, slack: float) -> bool:
    radii = radii_km(body)
    return radii is not None and radii[1] * (1 - slack) <= radius_km <= radii[2] * (1 + slack)


@cache
def _bodies() -> tuple[str, ...]:
    return tuple(_codes("Sphere / Ocentric"))


@cache
def _codes(kind: str) -> dict[str, str]:
    """Body in small letters -> code of its coordinates of a kind."""
    found: dict[str, str] = {}
    for info in query_crs_info(auth_name=AUTHORITY, pj_types="GEOGRAPHIC_2D_CRS"):
        body, bracket, rest = info.name.partition(" (2015)")
        if bracket and rest.endswith(kind):
            found.setdefault(body.lower(), info.code)
    return found
