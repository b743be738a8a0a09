"""How a raster is stored: its bands, their type, no data, mask and unit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rasterio.enums import ColorInterp, MaskFlags

from crater_ray.errors import ReaderError

_UNITS = {"m": 1.0, "metre": 1.0, "meter": 1.0, "km": 1000.0, "kilometre": 1000.0, "kilometer": 1000.0}


def storage_of(handle: Any, path: Path, bands: tuple[int, ...] | None) -> dict[str, Any]:
    """How it is stored: the fields of Frame from dtype to metres."""
    chosen = bands or _bands(handle, path)
    if min(chosen) < 1 or max(chosen) > handle.count or len(chosen) not in (1, 3):
        raise ReaderError(f"bands {list(chosen)} of {path.name}: give one or three of 1..{handle.count}")
    first = chosen[0] - 1
    masks = {MaskFlags.per_dataset, MaskFlags.alpha}
    masked = any(masks & set(handle.mask_flag_enums[band - 1]) for band in chosen)
    return {
        "dtype": handle.dtypes[first],
        "bands": chosen,
        "nodata": handle.nodatavals[first],
        "masked": masked,
        "scale": handle.scales[first],
        "metres": _UNITS.get((handle.units[first] or "").strip().lower().removesuffix("s")),
    }


def _bands(handle: Any, path: Path) -> tuple[int, ...]:
    kinds = list(handle.colorinterp)
    if ColorInterp.palette in kinds:
        raise ReaderError(f"{path.name} holds palette indices; expand it: gdal_translate -expand rgb")
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    if all(colour in kinds for colour in colours):
        return tuple(kinds.index(colour) + 1 for colour in colours)
    return (1,)
