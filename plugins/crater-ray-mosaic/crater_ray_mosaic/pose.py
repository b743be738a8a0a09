"""A view's pose, and its text form: what an item's uri says and all that load() needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from crater_ray.errors import BadImage


@dataclass(frozen=True, slots=True)
class Pose:
    """A square view on the orthographic plane that touches the sphere at (lat, lon)."""

    lat: float  # degrees, planetocentric
    lon: float  # degrees east, -180..180
    half_width_km: float
    azimuth: float | None = None  # of the sun, degrees clockwise from north; None: not shaded
    elevation: float | None = None  # of the sun, degrees above the horizon
    rotation: float = 0.0  # where the image's up points, degrees clockwise from north
    brightness: float = 0.0  # grey levels added
    contrast: float = 1.0  # factor about the view's mean
    camera: int | None = None  # the number that its camera is drawn from; None: seen as by no camera


_KEYS = (
    ("lat", "lat", 6),
    ("lon", "lon", 6),
    ("half_width_km", "half_width_km", 6),
    ("az", "azimuth", 3),
    ("el", "elevation", 3),
    ("rot", "rotation", 3),
    ("brightness", "brightness", 3),
    ("contrast", "contrast", 4),
    ("camera", "camera", 0),
)  # key, field, decimals
_DEFAULTS = {"az": None, "el": None, "rot": 0.0, "brightness": 0.0, "contrast": 1.0, "camera": None}


def to_uri(pose: Pose) -> str:
    """`lat=..&lon=..&half_width_km=..`, then what is not as by default, `&az=..&el=..`; fixed decimals."""
    parts = []
    for key, field, decimals in _KEYS:
        value = getattr(pose, field)
        if key not in _DEFAULTS or value != _DEFAULTS[key]:
            parts.append(f"{key}={round(value, decimals) + 0.0:.{decimals}f}")  # + 0.0: no minus zero
    return "&".join(parts)


def from_uri(uri: str) -> Pose:
    """The pose of a uri. Raises BadImage naming what is wrong with it."""
    known = {key: field for key, field, _ in _KEYS}
    values: dict[str, Any] = {}
    for key, text in parse_qsl(uri, keep_blank_values=True):
        if key not in known:
            raise BadImage(f"uri {uri!r} has an unknown key {key!r}; known: {', '.join(known)}")
        try:
            values[known[key]] = float(text)
        except ValueError:
            raise BadImage(f"uri {uri!r}: {key} is not a number") from None
        if not math.isfinite(values[known[key]]):
            raise BadImage(f"uri {uri!r}: {key} is not a finite number")
    missing = [key for key in ("lat", "lon", "half_width_km") if key not in values]
    if missing:
        raise BadImage(f"uri {uri!r} has no {missing[0]}; write lat=..&lon=..&half_width_km=..")
    if (camera := values.get("camera")) is not None:
        if not (0 <= camera < 2**53 and camera == int(camera)):
            raise BadImage(f"uri {uri!r}: camera is not a whole number from 0")
        values["camera"] = int(camera)
    pose = Pose(**values)
    if not (abs(pose.lat) <= 90 and abs(pose.lon) <= 360 and pose.half_width_km > 0):
        raise BadImage(f"uri {uri!r} is not a place on a sphere")
    return pose


def wrapped(lon: float) -> float:
    """Degrees east in -180..180, 180 itself as -180."""
    return (lon + 180.0) % 360.0 - 180.0
