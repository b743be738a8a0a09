"""Names of craters that a catalogue gives none: place and diameter, so that no other row changes them."""

from __future__ import annotations

DIGITS = 7  # decimals: 1e-7 degrees are 6 mm on Mars, 1e-7 km a tenth of a millimetre
LEAST = 3


def place_name(lat: float, lon: float, diameter: float) -> str:
    """As s08.920e013.400d12.5: degrees to as many decimals as they have, 3 to 7, and kilometres."""
    return (
        f"{'s' if lat < 0 else 'n'}{_degrees(lat, 2)}{'w' if lon < 0 else 'e'}{_degrees(lon, 3)}"
        f"d{_trimmed(diameter, 0)}"
    )


def _degrees(value: float, whole: int) -> str:
    number, _, decimals = _trimmed(abs(value), LEAST).partition(".")
    return f"{number:0>{whole}}.{decimals}"


def _trimmed(value: float, least: int) -> str:
    """Fixed decimals without the zeros at their end, but `least` of them."""
    number, _, decimals = f"{value:.{DIGITS}f}".partition(".")
    decimals = decimals.rstrip("0").ljust(least, "0")
    return f"{number}.{decimals}" if decimals else number
