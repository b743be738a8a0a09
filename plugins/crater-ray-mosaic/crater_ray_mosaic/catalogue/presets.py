"""How published catalogues name their columns, and what their numbers mean."""

from __future__ import annotations

from dataclasses import dataclass

# The gazetteer counts these bodies' longitudes westward while every map runs east: found by laying its rims
# over the maps both ways. Moon, Mars, Ceres, Vesta, Callisto, Venus, Pluto sit right eastward; Europa has no
# crater large enough to tell.
WEST_POSITIVE = frozenset({"mercury", "dione", "tethys", "iapetus", "rhea", "enceladus", "ganymede"})


@dataclass(frozen=True, slots=True)
class Columns:
    """The names a catalogue gives its columns. No id: craters are named by place and diameter.

    No lat and lon, or no diameter: those of the geometry of a vector layer. With `published`, the names are
    a preset's, and a vector layer may lack them. With `recognise`, a name that is missing is looked for by
    what headers say.
    """

    id: str | None
    lat: str | None
    lon: str | None
    diameter: str | None
    published: bool = False
    recognise: bool = False


PRESETS: dict[str, Columns] = {
    "robbins_mars": Columns(  # copies of it have the short names of the Moon's
        "CRATER_ID",
        "LATITUDE_CIRCLE_IMAGE",
        "LONGITUDE_CIRCLE_IMAGE",
        "DIAM_CIRCLE_IMAGE",
        published=True,
        recognise=True,
    ),
    "robbins_moon": Columns("CRATER_ID", "LAT_CIRC_IMG", "LON_CIRC_IMG", "DIAM_CIRC_IMG", published=True),
    "head_povilaitis": Columns("crater_id", "lat", "lon_e180", "diam_km", published=True),
    "hkpolyu": Columns("crater_id", "lat", "lon_e180", "diam_km", published=True),
    "craterpy": Columns(None, "Latitude", "Longitude", "Diameter (km)", published=True),
}


def preset_west_positive(preset: str | None, body: str) -> bool | None:
    """Whether a preset's longitudes of a body run west; None where the preset does not say."""
    if preset == "craterpy":
        return body.strip().lower() in WEST_POSITIVE if body else None
    return False if preset else None


def preset_unit(preset: str | None) -> str | None:
    """Every preset is in kilometres."""
    return "km" if preset else None
