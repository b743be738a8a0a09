"""Numbers that cannot be what they are said to be: refused, with the option that is likely missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crater_ray.errors import ReaderError
from crater_ray_mosaic.catalogue.craters import Catalogue, Floats

MANY = 10  # craters from which a median tells more than one basin would
WIDE = 1.0 / 3.0  # of the radius: no list of many craters has such a median


def refuse(bad: NDArray[np.bool_], name: str, what: str, file: str, cells: Sequence[Any] = ()) -> None:
    """Raises ReaderError with the count and the first row, where anything is bad."""
    if bad.any():
        row = int(np.argmax(bad))
        cell = "".join(one for one in str(cells[row])[:40] if one.isprintable()) if len(cells) else None
        raise ReaderError(
            f"{file}: {int(bad.sum())} of {len(bad)} cells of column {name!r} are {what}, "
            f"the first in row {row + 1}{'' if cell is None else f' ({cell!r})'}; mend or drop these rows"
        )


def refuse_places(
    lat: Floats, lon: Floats, lat_name: str, lon_name: str, file: str, *, stated: bool = False
) -> None:
    """Degrees off the globe, columns that are swapped, and radians (unless degrees are stated)."""
    off = np.abs(lat) > 90
    if off.any() and (np.abs(lon) <= 90).all() and (np.abs(lat) <= 360).all():
        raise ReaderError(
            f"{file}: {int(off.sum())} of {len(off)} cells of column {lat_name!r} are beyond ±90, and none "
            f"of {lon_name!r} is; are lat_column and lon_column swapped?"
        )
    refuse(off, lat_name, "beyond ±90", file)
    refuse(np.abs(lon) > 360, lon_name, "beyond ±360", file)
    if len(lat) >= MANY and not stated:
        turn = float(np.ptp(lon))
        if np.abs(lat).max() <= np.pi / 2 and np.ptp(lat) > 2.2 and 5.0 < turn <= 2 * np.pi:
            raise ReaderError(
                f'{file}: columns {lat_name!r} and {lon_name!r} look like radians; give angle_unit = "rad", '
                'or "deg" if they are degrees'
            )


def refuse_diameters(
    diameter: Floats, stated: str | None, radius_km: float, by_option: bool, file: str
) -> None:
    """A median diameter that no list of craters of the body has."""
    if not len(diameter):
        return
    median = float(np.median(diameter))
    limit = 2.0 if by_option else WIDE if stated is None and len(diameter) >= MANY else 1.0
    if median > limit * radius_km:
        other = "km" if stated == "m" else "m"
        raise ReaderError(
            f"{file}: half of its {len(diameter)} craters are wider than {median:,.6g} km, on a body of "
            f'radius {radius_km:,.1f} km; is it diameter_unit = "{other}"?'
            + ("" if stated else ' (Give "km" if it is not.)')
        )


def refuse_specks(found: Catalogue, pixel_km: float, raster: str) -> None:
    """Craters of which most are smaller than a pixel of the raster."""
    if not len(found):
        return
    median = float(np.median(found.diameter))
    if median < pixel_km:
        raise ReaderError(
            f"half of the {len(found)} craters are smaller than {median:,.4g} km, and a pixel of {raster} is "
            f"{pixel_km:,.4g} km; give min_pixels to keep those that it shows, or diameter_unit "
            "if their unit is another"
        )
