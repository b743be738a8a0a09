"""Option extent beside what a raster says itself of where it lies."""

from __future__ import annotations

import warnings
from typing import Any

from pyproj import CRS
from pyproj.exceptions import CRSError
from rasterio.errors import NotGeoreferencedWarning

from crater_ray.errors import ReaderError
from crater_ray_mosaic.projection import projection
from crater_ray_mosaic.source import Source, UnreadableRaster

Extent = tuple[float, float, float, float]
TOLERANCE = 0.01  # of a side


def checked(source: Source, extent: Extent, label: str) -> None:
    """Raises ReaderError where a file that says in degrees where it lies says otherwise than the extent.

    source: of the file without the extent; label: what the user calls it. Says nothing of a file that GDAL
    cannot open, or whose CRS PROJ cannot use: that is told where it is opened.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            own = source.ask(_own)
    except (UnreadableRaster, CRSError):
        return
    if own is None:
        return
    west, south, east, north = extent
    wide = (east - west) % 360.0 or 360.0
    sides = (own[0] - west, own[2] - own[0] - wide, own[1] - south, own[3] - north)
    turns = (sides[0] + 180.0) % 360.0 - 180.0
    if (
        max(abs(turns), abs(sides[1])) > TOLERANCE * wide
        or max(map(abs, sides[2:])) > TOLERANCE * (north - south)
    ):  # fmt: skip
        raise ReaderError(
            f"extent = {[float(side) for side in extent]} and {label} itself "
            f"({[round(side, 4) for side in own]} in degrees) disagree about its place; leave extent out, "
            "or correct the file with gdal_edit.py -a_ullr"
        )


def _own(file: Any) -> Extent | None:
    """West, south, east, north that the file says, degrees; None where it says none that can be compared."""
    transform, crs, (width, height) = file.transform, file.crs, (file.width, file.height)
    if transform.is_identity or transform.b or transform.d:
        return None
    west, north = transform.c, transform.f
    east, south = west + width * transform.a, north + height * transform.e
    if crs:
        straight = projection(CRS.from_wkt(crs.to_wkt(version="WKT2_2019")).to_wkt()).straight
        if straight is None:
            return None  # refused for its projection
        west, east = (straight.lon + x / straight.per_lon for x in (west, east))
        south, north = (straight.lat + y / straight.per_lat for y in (south, north))
    elif max(map(abs, (west, east))) > 361 or max(map(abs, (south, north))) > 91:
        return None  # a world file in other units than degrees
    return min(west, east), min(south, north), max(west, east), max(south, north)
