"""Option extent beside what a raster says itself of where it lies."""

from __future__ import annotations

import warnings

import rasterio
from pyproj import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from crater_ray.errors import ReaderError
from crater_ray_mosaic.projection import projection

Extent = tuple[float, float, float, float]
TOLERANCE = 0.01  # of a side


def checked(name: str, extent: Extent, label: str) -> None:
    """Raises ReaderError where a file that says in degrees where it lies says otherwise than the extent.

    name: what GDAL opens; label: what the user calls it. Says nothing of a file that GDAL cannot open.
    """
    own = _own(name)
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


def _own(name: str) -> Extent | None:
    """West, south, east, north that the file says, degrees; None where it says none that can be compared."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(name) as file:
                transform, crs, (width, height) = file.transform, file.crs, (file.width, file.height)
    except RasterioIOError:
        return None
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
