"""Where a raster lies on its body, out of what GDAL says of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import CRSError

from crater_ray.errors import ReaderError
from crater_ray_mosaic.address import gdal_name
from crater_ray_mosaic.bodies import body_of
from crater_ray_mosaic.extent import Extent
from crater_ray_mosaic.figure import Figure, Statement, figure_of
from crater_ray_mosaic.plane import Plane
from crater_ray_mosaic.projection import Floats, Straight, planetographic, projection
from crater_ray_mosaic.storage import storage_of

ROUNDING = 0.001  # columns, by which a whole turn may miss a whole number and still is meant to be one
_DEGREES = Straight(0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a raster lies, and how it is stored.

    The first four are degrees, of a raster whose columns are longitude and whose rows are latitude (simple
    cylindrical); of any other they are NaN and `plane` says where it lies.
    """

    west: float  # of the first column's outer edge
    north: float  # of the first row's outer edge: the southern one where rows run north
    step_lon: float  # a column, negative where columns run west
    step_lat: float  # a row southward, negative where rows run north
    width: int
    height: int
    radius_km: float
    dtype: str
    bands: tuple[int, ...]
    nodata: float | None
    masked: bool  # has a mask band or alpha
    scale: float  # what a stored number is multiplied with, as the file says
    metres: float | None = field(
        default=None, repr=False
    )  # a unit of its values; None: the file has none that is known
    unit: str = field(default="", repr=False)  # the name of it, as the file says
    flattening: float = field(default=0.0, repr=False)  # see Figure
    plane: Plane | None = field(default=None, repr=False)
    body: str = field(default="", repr=False)  # as the CRS's name or the radius tell; empty: they do not

    @property
    def turn(self) -> float:
        """Columns of a whole turn; not always a whole number, and infinite where no number is enough."""
        columns = self.plane.turn if self.plane else 360.0 / abs(self.step_lon)
        whole = round(columns) if math.isfinite(columns) else 0
        return float(whole) if abs(columns - whole) < ROUNDING else columns

    @property
    def wraps(self) -> bool:
        """Whether the raster goes all the way round, with less than one column missing or some repeated."""
        return self.width > self.turn - 1.0 + ROUNDING

    @property
    def kilometres(self) -> float:
        """One row's height; where it is not the same everywhere, of a pixel in the raster's middle."""
        if self.plane is None:
            return math.radians(abs(self.step_lat)) * self.radius_km
        rows, columns = np.meshgrid(*(np.linspace(0, n - 1, 9) for n in (self.height, self.width)))
        lats, lons = self.plane.places(rows, columns)
        sizes = self.plane.pixel_radians(lats, lons)
        middle = sizes[4, 4] if np.isfinite(sizes[4, 4]) else np.nanmedian(sizes)
        return float(middle) * self.radius_km

    def kilometres_at(self, lats: Floats, lons: Floats) -> Floats:
        """(N,) of a pixel at each of N places; infinite where the raster's projection has no such place."""
        if self.plane is None:
            return np.full(len(lats), self.kilometres)
        sizes = self.plane.pixel_radians(lats, lons) * self.radius_km
        return np.where(np.isfinite(sizes), sizes, np.inf)

    def pixels(self, lats: Floats, lon: float, east: Floats) -> tuple[Floats, Floats]:
        """Fractional rows and columns of the places (lats, lon + east), degrees; pixel k has its centre at k.

        Those of one view: the turn is one for all, so that columns may lie beyond a raster that wraps.
        """
        if self.plane is not None:
            return self.plane.pixels(lats, lon + east, lon)
        if self.flattening:
            lats = planetographic(lats, self.flattening)
        rows = (self.north - lats) / self.step_lat - 0.5
        return rows, self._columns(lon) + east / self.step_lon - 0.5

    def holds(self, lats: Floats, lons: Floats) -> NDArray[np.bool_]:
        """Whether places, degrees, are inside the raster's extent; of their shape."""
        if self.plane is not None:
            return self.plane.holds(lats, lons)
        if self.flattening:
            lats = planetographic(lats, self.flattening)
        rows, columns = (self.north - lats) / self.step_lat, self._columns(lons)
        inside = (rows >= 0) & (rows <= self.height)
        return np.asarray(inside & (self.wraps | ((columns >= 0) & (columns <= self.width))), np.bool_)

    def _columns(self, lon: Any) -> Any:
        """Columns of longitudes, edges whole, the turn chosen nearest the raster's middle."""
        middle = self.west + self.width * self.step_lon / 2
        return ((lon - middle + 180.0) % 360.0 - 180.0) / self.step_lon + self.width / 2


def dataset_name(path: Path, extent: tuple[float, float, float, float] | None, nodata: float | None) -> str:
    """What GDAL opens: the file, or a virtual raster over it that says what the file does not."""
    extra = []
    if extent is not None:
        west, south, east, north = extent
        extra.append(f"a_ullr={west},{north},{east if east > west else east + 360.0},{south}")
    if nodata is not None:
        extra.append(f"a_nodata={nodata}")
    if extra and set("?&") & set(str(path)):
        raise ReaderError(f"options extent and nodata cannot be used with a path that holds ? or &: {path}")
    name = gdal_name(path)
    return f"vrt://{name}?{'&'.join(extra)}" if extra else name


def frame_of(
    handle: Any,
    path: Path,
    *,
    radius_km: float | None = None,
    bands: tuple[int, ...] | None = None,
    body: Statement | None = None,
    crs: str | None = None,
    extent: Extent | None = None,
) -> Frame:
    """The frame of an open dataset. crs: in place of its own; extent: that it was opened with.

    Raises ReaderError without a place on a body, and where what is said of it disagrees.
    """
    name, transform = path.name, handle.transform
    if transform.is_identity:
        by = "ground control points" if handle.gcps[0] else "a camera model (RPC)" if handle.rpcs else None
        how = f" but by {by}: rectify it with gdalwarp, or" if by else ";"
        raise ReaderError(f"{name} does not say where it lies{how} give extent = {EXTENT}")
    system = _system(handle, crs, name)
    figure = figure_of(name if crs is None else f"option crs, {crs!r}", system, body, radius_km)
    straight = None if system is None else projection(system.to_wkt()).straight
    if extent is not None:
        if system is not None and straight is None:
            raise ReaderError(
                f"extent is for simple cylindrical rasters, but {name} is in {system.name!r} by its CRS; "
                "leave extent out, or give the right option crs"
            )
        straight = _DEGREES
    texts = (
        []
        if system is None
        else [system.name, *(one.name for one in (system.datum, system.ellipsoid) if one)]
    )
    storage = storage_of(handle, path, bands) | {"body": body_of(figure.radius_km, *texts)}
    upright = not (transform.b or transform.d)
    if upright and (straight or system is None):
        return _straight(
            name, transform, straight or _DEGREES, figure, (handle.width, handle.height), storage
        )
    if system is None:
        raise ReaderError(f"{name} has no CRS and is turned; give option crs, as '+proj=longlat +R=1737400'")
    size = handle.width, handle.height
    plane = Plane(system.to_wkt(), tuple(transform)[:6], *size, figure.flattening)
    _on_globe(plane, name, system)
    return Frame(
        *(math.nan,) * 4, *size, figure.radius_km, **storage, flattening=figure.flattening, plane=plane
    )


EXTENT = "[west, south, east, north]"


def _system(handle: Any, crs: str | None, name: str) -> CRS | None:
    """The CRS of the plane alone: given, or the file's own."""
    try:
        if crs is not None:
            found = CRS.from_user_input(crs)
        elif handle.crs:
            found = CRS.from_wkt(handle.crs.to_wkt(version="WKT2_2019"))
        else:
            return None
    except CRSError as error:
        what = f"option crs = {crs!r}" if crs is not None else f"the CRS of {name}"
        raise ReaderError(f"PROJ cannot read {what}: {error}") from None
    while found.is_compound or found.is_bound:  # heights, and shifts to other datums, are not wanted
        found = found.sub_crs_list[0] if found.is_compound else found.source_crs or found
    if not (found.is_geographic or found.is_projected or found.is_derived or found.ellipsoid):
        raise ReaderError(f"the CRS of {name}, {found.name!r}, says nothing of a body; give option crs")
    return found


def _straight(
    name: str, transform: Any, straight: Straight, figure: Figure, size: tuple[int, int], storage: Any
) -> Frame:
    """Of columns along longitude and rows along latitude. Raises ReaderError beyond the globe."""
    west = straight.lon + transform.c / straight.per_lon
    north = straight.lat + transform.f / straight.per_lat
    step_lon, step_lat = transform.a / straight.per_lon, -transform.e / straight.per_lat
    width, height = size
    slack = 2.0 * max(abs(step_lat), abs(step_lon))
    other, wide = north - height * step_lat, width * abs(step_lon)
    if max(north, other) > 90 + slack or min(north, other) < -90 - slack or wide > 360 + slack:
        raise ReaderError(
            f"{name} reaches beyond the globe ({min(north, other):.3f}° to {max(north, other):.3f}° north, "
            f"{wide:.3f}° wide) by its own coordinates and CRS; correct them, or give the right option crs "
            "or extent"
        )
    if wide < 0.2 and _degrees(transform, width, height):
        raise ReaderError(
            f"{name} is {width * abs(transform.a):g} by {height * abs(transform.e):g} metres by its CRS, "
            "but these look like the degrees of a globe; give option crs, as '+proj=longlat +R=1737400'"
        )
    place = west, north, step_lon, step_lat, width, height, figure.radius_km
    return Frame(*place, **storage, flattening=figure.flattening)


def _degrees(transform: Any, width: int, height: int) -> bool:
    """Whether a raster is 360 by 180 in the units of its CRS."""
    sides = width * abs(transform[0]), height * abs(transform[4])
    return bool(abs(sides[0] - 360) < 3.6 and abs(sides[1] - 180) < 1.8)


def _on_globe(plane: Plane, name: str, system: CRS) -> None:
    rows, columns = np.meshgrid(*(np.linspace(0, n - 1, 9) for n in (plane.height, plane.width)))
    if _degrees(plane.transform, plane.width, plane.height) and system.is_projected:
        raise ReaderError(
            f"{name} is 360 by 180 metres by its CRS, {system.name!r}, but these look like the degrees of a "
            "globe; give option crs, as '+proj=longlat +R=1737400'"
        )
    if not plane.projection.inverts:
        raise ReaderError(
            f"PROJ has no way back from the projection of {name}, {system.name!r}, to latitude and "
            "longitude; warp it with gdalwarp to another, such as '+proj=stere' or '+proj=eqc'"
        )
    if not np.isfinite(plane.places(rows, columns)[0]).any():
        raise ReaderError(
            f"{name} lies beyond the globe by its own coordinates and CRS, {system.name!r}; correct them, or "
            "give the right option crs"
        )
