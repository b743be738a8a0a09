"""Bodies: their spheres as the IAU defines them, and how far apart two places on one are.

PROJ has the same numbers; a search by distance needs no more of it. tests/test_bodies.py compares.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# body: the code of its coordinates of authority IAU_2015 (sphere, ocentric), the radius in kilometres
SPHERES: dict[str, tuple[int, float]] = {
    "sun": (1000, 695700.0),
    "mercury": (19900, 2440.53),
    "venus": (29900, 6051.8),
    "moon": (30100, 1737.4),
    "earth": (39900, 6378.1366),
    "phobos": (40100, 11.08),
    "deimos": (40200, 6.2),
    "mars": (49900, 3396.19),
    "io": (50100, 1821.49),
    "europa": (50200, 1560.8),
    "ganymede": (50300, 2631.2),
    "callisto": (50400, 2410.3),
    "amalthea": (50500, 83.5),
    "himalia": (50600, 85.0),
    "elara": (50700, 40.0),
    "pasiphae": (50800, 18.0),
    "sinope": (50900, 14.0),
    "lysithea": (51000, 12.0),
    "carme": (51100, 15.0),
    "ananke": (51200, 10.0),
    "leda": (51300, 5.0),
    "thebe": (51400, 49.3),
    "adrastea": (51500, 8.2),
    "metis": (51600, 21.5),
    "jupiter": (59900, 71492.0),
    "mimas": (60100, 198.2),
    "enceladus": (60200, 252.1),
    "tethys": (60300, 531.0),
    "dione": (60400, 561.4),
    "rhea": (60500, 763.5),
    "titan": (60600, 2575.0),
    "hyperion": (60700, 135.0),
    "iapetus": (60800, 745.7),
    "phoebe": (60900, 106.5),
    "janus": (61000, 89.2),
    "epimetheus": (61100, 58.2),
    "helene": (61200, 18.0),
    "telesto": (61300, 12.4),
    "calypso": (61400, 9.6),
    "atlas": (61500, 15.1),
    "prometheus": (61600, 43.1),
    "pandora": (61700, 40.6),
    "pan": (61800, 14.0),
    "methone": (63200, 1.45),
    "pallene": (63300, 2.23),
    "polydeuces": (63400, 1.3),
    "daphnis": (63500, 3.8),
    "anthe": (64900, 0.5),
    "aegaeon": (65300, 0.33),
    "saturn": (69900, 60268.0),
    "ariel": (70100, 578.9),
    "umbriel": (70200, 584.7),
    "titania": (70300, 788.9),
    "oberon": (70400, 761.4),
    "miranda": (70500, 235.8),
    "cordelia": (70600, 13.0),
    "ophelia": (70700, 15.0),
    "bianca": (70800, 21.0),
    "cressida": (70900, 31.0),
    "desdemona": (71000, 27.0),
    "juliet": (71100, 42.0),
    "portia": (71200, 54.0),
    "rosalind": (71300, 27.0),
    "belinda": (71400, 33.0),
    "puck": (71500, 77.0),
    "uranus": (79900, 25559.0),
    "triton": (80100, 1352.6),
    "nereid": (80200, 170.0),
    "naiad": (80300, 29.0),
    "thalassa": (80400, 40.0),
    "despina": (80500, 74.0),
    "galatea": (80600, 79.0),
    "larissa": (80700, 96.0),
    "proteus": (80800, 208.0),
    "neptune": (89900, 24764.0),
    "charon": (90100, 606.0),
    "pluto": (99900, 1188.3),
    "borrelly": (100000500, 4.22),
    "churyumov-gerasimenko": (100001200, 1.65),
    "halley": (100003600, 8.0),
    "hartley 2": (100004100, 0.58),
    "tempel 1": (100009300, 3.0),
    "wild 2": (100010700, 1.975),
    "ceres": (200000100, 487.3),
    "vesta": (200000400, 255.0),
    "psyche": (200001600, 113.0),
    "lutetia": (200002100, 52.5),
    "52 europa": (200005200, 157.5),
    "kleopatra": (200021600, 65.333333333),
    "mathilde": (200025300, 26.5),
    "eros": (200043300, 17.0),
    "davida": (200051100, 150.0),
    "steins": (200286700, 2.7),
    "toutatis": (200417900, 1.331666667),
    "itokawa": (202514300, 0.173),
    "ida": (243101000, 15.65),
    "gaspra": (951101000, 6.1),
}


def body_name(body: object) -> str | None:
    """In small letters, as `SPHERES` has it; None where nothing is named."""
    return (None if body is None else str(body).strip().lower()) or None


def radius_km(body: object) -> float | None:
    """Of a body's sphere; None where the IAU has no body of that name."""
    found = SPHERES.get(body_name(body) or "")
    return None if found is None else found[1]


def crs_of(body: object) -> str | None:
    """The coordinate system of a body, as PROJ and GDAL take it: IAU_2015:30100 for the Moon."""
    found = SPHERES.get(body_name(body) or "")
    return None if found is None else f"IAU_2015:{found[0]}"


def distance_km(lat: float, lon: float, lats: Array, lons: Array, radii: Array | float) -> Array:
    """(n,) on the ground, from one place to others of a sphere, in degrees; NaN where one has no place."""
    first, others = np.radians(lat), np.radians(lats)
    half = np.sin((others - first) / 2) ** 2
    half = half + np.cos(first) * np.cos(others) * np.sin(np.radians(lons - lon) / 2) ** 2
    return np.asarray(2 * radii * np.arcsin(np.sqrt(np.clip(half, 0, 1))), np.float64)
