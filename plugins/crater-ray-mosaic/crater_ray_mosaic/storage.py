"""How a raster is stored: its bands, their type, no data, mask and unit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rasterio.enums import ColorInterp, MaskFlags

from crater_ray.errors import ReaderError

_METRES = {  # of a unit that heights are given in
    1.0: ("m", "metre", "meter"),
    1000.0: ("km", "kilometre", "kilometer"),
    0.1: ("dm", "decimetre", "decimeter"),
    0.01: ("cm", "centimetre", "centimeter"),
    0.3048: ("ft", "foot", "feet", "international foot"),
    1200 / 3937: ("us survey foot", "us survey feet", "us-ft", "ftus", "us_survey_foot"),
}
_UNITS = {name: metres for metres, names in _METRES.items() for name in names}


def storage_of(handle: Any, path: Path, bands: tuple[int, ...] | None) -> dict[str, Any]:
    """How it is stored: the fields of Frame from dtype to metres."""
    chosen = bands or _bands(handle, path)
    if min(chosen) < 1 or max(chosen) > handle.count or len(chosen) not in (1, 3):
        raise ReaderError(f"bands {list(chosen)} of {path.name}: give one or three of 1..{handle.count}")
    first = chosen[0] - 1
    masks = {MaskFlags.per_dataset, MaskFlags.alpha}
    masked = any(masks & set(handle.mask_flag_enums[band - 1]) for band in chosen)
    unit = (handle.units[first] or "").strip()
    return {
        "dtype": handle.dtypes[first],
        "bands": chosen,
        "nodata": handle.nodatavals[first],
        "masked": masked,
        "scale": handle.scales[first],
        "metres": metres_of(unit),
        "unit": unit,
    }


def metres_of(unit: str) -> float | None:
    """Metres of one unit of length by its name, as in "metres above datum"; None where it is not known."""
    words = unit.lower().replace("[", " ").replace("]", " ").replace("(", " ").split()
    for count in range(len(words), 0, -1):
        name = " ".join(words[:count]).rstrip(",;.")
        if found := _UNITS.get(name) or _UNITS.get(name.removesuffix("s")):
            return found
    return None


def _bands(handle: Any, path: Path) -> tuple[int, ...]:
    kinds = list(handle.colorinterp)
    if ColorInterp.palette in kinds:
        raise ReaderError(f"{path.name} holds palette indices; expand it: gdal_translate -expand rgb")
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    if all(colour in kinds for colour in colours):
        return tuple(kinds.index(colour) + 1 for colour in colours)
    return (1,)
