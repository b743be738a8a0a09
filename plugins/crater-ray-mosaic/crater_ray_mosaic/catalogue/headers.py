"""What a column's header says of its numbers: unit, radius, direction of longitude, kind of latitude."""

from __future__ import annotations

import re
from collections.abc import Sequence

Words = list[str]

_LENGTHS = {
    **dict.fromkeys(("km", "kms", "kilometer", "kilometers", "kilometre", "kilometres"), "km"),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), "m"),
    **dict.fromkeys(("px", "pix", "pixel", "pixels"), "pixels"),
    **dict.fromkeys(("deg", "degree", "degrees"), "degrees"),
    **dict.fromkeys(("cm", "mm", "mi", "mile", "miles", "ft", "feet"), "another unit"),
}
_ANGLES = {
    **dict.fromkeys(("deg", "degree", "degrees", "dd"), "deg"),
    **dict.fromkeys(("rad", "radian", "radians"), "rad"),
}
_WEST = re.compile(r"w|west|westward|westwards|(w|west)\d+")
_EAST = re.compile(r"e|east|eastward|eastwards|(e|east)\d+")
_GRAPHIC = {"planetographic", "ographic", "graphic", "geodetic", "pg"}
_CENTRIC = {"planetocentric", "ocentric", "centric", "geocentric", "pc"}
_DIAMETERS = {"diameter", "diameters", "diam", "dia", "d"}
_LATITUDES = {"lat", "latitude"}
_LONGITUDES = {"lon", "long", "lng", "longitude"}


def words(text: str) -> Words:
    """The words of a header in small letters: "LonW (degE)" -> lon, w, deg, e."""
    text = text.replace("°", " deg ").replace("º", " deg ")
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    found = re.findall(r"[^\W_]+", text.lower())
    return [
        word
        for part in found
        for word in re.sub(r"^(deg|degrees)(e|w|n|s|east|west|north|south)$", r"\1 \2", part).split()
    ]


def length_unit(header: str, unit: str = "") -> str | None:
    """km, m, or a unit that is neither; None where nothing is said or two units are."""
    return _one({_LENGTHS[word] for word in words(header)[1:] + words(unit) if word in _LENGTHS})


def angle_unit(header: str, unit: str = "") -> str | None:
    """deg or rad; None where nothing is said."""
    return _one({_ANGLES[word] for word in words(header)[1:] + words(unit) if word in _ANGLES})


def radius(header: str) -> bool | None:
    """Whether the numbers are radii; None where the header does not say."""
    said = words(header)
    if set(said) & {"radius", "radii"} or said[:1] in (["r"], ["rad"]):
        return None if set(said) & _DIAMETERS else True
    return False if set(said) & (_DIAMETERS - {"d"}) else None


def west_positive(header: str, unit: str = "") -> bool | None:
    """Whether longitudes count westward; None where nothing is said, or both are ("+E, -W": east)."""
    text = f"{header} {unit}"
    signed = re.search(r"\+\s*(e|w)(ast|est)?\b|\b(e|w)(ast|est)?\s*\+|positive[\s_-]*(e|w)", text, re.I)
    if signed:
        return (signed[1] or signed[3] or signed[5]).lower() == "w"
    said = {word for word in words(text) if _WEST.fullmatch(word)}
    east = {word for word in words(text) if _EAST.fullmatch(word)}
    return None if bool(said) == bool(east) else bool(said)


def planetographic(header: str) -> bool | None:
    """Whether latitudes are planetographic; None where the header does not say."""
    said = set(words(header))
    graphic, centric = bool(said & _GRAPHIC), bool(said & _CENTRIC)
    return None if graphic == centric else graphic


def recognised(header: Sequence[str], role: str) -> str | None:
    """The one column whose first word names the role (lat, lon or diameter); None for none or several."""
    names = {
        "lat": _LATITUDES,
        "lon": _LONGITUDES,
        "diameter": _DIAMETERS | {"radius", "radii"},
    }.get(role, set())
    found = [name for name in header if (words(name) or [""])[0] in names]
    return found[0] if len(found) == 1 else None


def _one(said: set[str]) -> str | None:
    return said.pop() if len(said) == 1 else None
