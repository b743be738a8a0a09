"""What a catalogue's numbers mean: as options say, and as headers say; the two are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from crater_ray.errors import ReaderError
from crater_ray_mosaic.catalogue import headers
from crater_ray_mosaic.catalogue.craters import Floats

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Conventions:
    """None: as the header says, then the preset; else degrees east, planetocentric, diameters in km."""

    west_positive: bool | None = None
    diameter_unit: str | None = None  # km or m
    diameter_is: str | None = None  # diameter or radius
    latitude: str | None = None  # planetocentric or planetographic
    angle_unit: str | None = None  # deg or rad
    flattening: float | None = None  # of the body, for planetographic latitudes


def east_longitudes(
    values: Floats, lettered: Floats, name: str, unit: str, said: Conventions, preset: bool | None, file: str
) -> Floats:
    """(N,) degrees east, -180..180. Values with a letter of their own (2.5W) are east already."""
    found = headers.west_positive(name, unit)
    west = _agreed(said.west_positive, found, "west_positive", name, _west, file)
    degrees = _degrees(values, name, unit, said, file)
    if preset is not None and west is None:
        west = preset
    turned = np.where((lettered == 0) & bool(west), -degrees, degrees)
    return np.asarray((turned + 180.0) % 360.0 - 180.0, np.float64)


def angles(values: Floats, name: str, unit: str, said: Conventions, file: str) -> Floats:
    """(N,) degrees, as they are counted in the file."""
    return _degrees(values, name, unit, said, file)


def is_planetographic(name: str, unit: str, said: Conventions, file: str) -> bool:
    """Whether the latitudes of a column are planetographic."""
    option = None if said.latitude is None else said.latitude == "planetographic"
    found = headers.planetographic(f"{name} {unit}")
    graphic = _agreed(option, found, "latitude", name, _latitude, file)
    return bool(graphic)


def planetocentric(lat: Floats, flattening: float) -> Floats:
    """(N,) degrees of planetographic latitudes. tan(centric) = (1 - f)² tan(graphic), Snyder eq. 3-28."""
    if not flattening:
        return lat
    phi = np.radians(lat)
    squeezed = np.arctan2((1.0 - flattening) ** 2 * np.sin(phi), np.cos(phi))
    return np.asarray(np.where(np.abs(lat) >= 90.0, lat, np.degrees(squeezed)), np.float64)


def kilometres(
    values: Floats, lettered: Floats, name: str, unit: str, said: Conventions, preset: str | None, file: str
) -> tuple[Floats, str | None]:
    """(N,) diameters in kilometres, and the unit where anything states it. A cell "3 km" has its own."""
    found = headers.length_unit(name, unit)
    if found not in (None, "km", "m"):
        raise ReaderError(f"{file}: column {name!r} is in {found}; give diameters in kilometres or metres")
    stated = _agreed(said.diameter_unit, found, "diameter_unit", name, str, file) or preset
    halved = _agreed(
        None if said.diameter_is is None else said.diameter_is == "radius",
        headers.radius(name),
        "diameter_is",
        name,
        _radius,
        file,
    )
    scaled = np.where(lettered == 0, values / (1000.0 if stated == "m" else 1.0), values)
    return (2.0 * scaled if halved else scaled), stated


def _degrees(values: Floats, name: str, unit: str, said: Conventions, file: str) -> Floats:
    found = headers.angle_unit(name, unit)
    radians = _agreed(said.angle_unit, found, "angle_unit", name, str, file) == "rad"
    return np.degrees(values) if radians else values


def _agreed(
    option: T | None, header: T | None, key: str, name: str, shown: Callable[[T], str], file: str
) -> T | None:
    """What either says. Raises ReaderError where both do and differ."""
    if option is not None and header is not None and option != header:
        raise ReaderError(
            f"{file}: column {name!r} says {shown(header)}, and option {key} says {shown(option)}; "
            "correct the option, or rename the column"
        )
    return header if option is None else option


def _west(west: bool) -> str:
    return "longitudes west" if west else "longitudes east"


def _latitude(graphic: bool) -> str:
    return "planetographic" if graphic else "planetocentric"


def _radius(radius: bool) -> str:
    return "radius" if radius else "diameter"
