"""Where a raster lies on its sphere, out of what GDAL says of it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rasterio.enums import ColorInterp, MaskFlags

from crater_ray.errors import ReaderError

ROUNDING = 0.001  # columns, by which a whole turn may miss a whole number and still is meant to be one
_PLAIN = ("Equirectangular", "Equidistant_Cylindrical", "Plate_Carree")


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a raster lies, in degrees east and north, and how it is stored."""

    west: float
    north: float
    step_lon: float  # degrees a column
    step_lat: float  # degrees a row, positive
    width: int
    height: int
    radius_km: float
    dtype: str
    bands: tuple[int, ...]
    nodata: float | None
    masked: bool  # has a mask band or alpha
    scale: float  # what a stored number is multiplied with, as the file says

    @property
    def turn(self) -> float:
        """Columns of a whole turn; not always a whole number."""
        columns = 360.0 / abs(self.step_lon)
        whole = round(columns)
        return float(whole) if abs(columns - whole) < ROUNDING else columns

    @property
    def wraps(self) -> bool:
        """Whether the raster goes all the way round, with less than one column missing or some repeated."""
        return self.width > self.turn - 1.0 + ROUNDING

    @property
    def kilometres(self) -> float:
        """One row's height."""
        return math.radians(self.step_lat) * self.radius_km


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
    return f"vrt://{path}?{'&'.join(extra)}" if extra else str(path)


def frame_of(handle: Any, path: Path, radius_km: float | None, bands: tuple[int, ...] | None) -> Frame:
    """The frame of an open dataset. Raises ReaderError without a place on a sphere, or where it is warped."""
    transform, crs = handle.transform, handle.crs
    if transform.is_identity:
        raise ReaderError(
            f"{path.name} does not say where it lies; give extent = [lon_min, lat_min, lon_max, lat_max]"
        )
    if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
        raise ReaderError(f"{path.name} is not north-up; warp it with gdalwarp first")
    to_lon = to_lat = 1.0
    lon_0 = lat_0 = x_0 = y_0 = 0.0
    own_radius = None
    if crs:
        text = crs.to_wkt()
        found = re.search(r'(?:SPHEROID|ELLIPSOID)\["[^"]*",\s*([\d.eE+]+)', text)
        own_radius = float(found.group(1)) / 1000.0 if found else None
        if crs.is_projected:
            terms = crs.to_dict()
            projection = re.search(r'PROJECTION\["([^"]+)"', text)
            if terms.get("proj") not in ("eqc", "equirect") and not (projection and projection[1] in _PLAIN):
                named = projection[1] if projection else "an unknown projection"
                raise ReaderError(
                    f"{path.name} is in {named}, "
                    "not simple cylindrical; warp it: gdalwarp -t_srs '+proj=eqc +R=<metres>'"
                )
            metres = float(terms.get("to_meter", 1.0)) * (1000.0 if terms.get("units") == "km" else 1.0)
            if own_radius is None:
                raise ReaderError(f"the CRS of {path.name} has no radius; warp it with gdalwarp first")
            to_lat = math.degrees(metres / (own_radius * 1000.0))
            to_lon = to_lat / math.cos(math.radians(float(terms.get("lat_ts", 0.0))))
            lon_0, lat_0 = float(terms.get("lon_0", 0.0)), float(terms.get("lat_0", 0.0))
            x_0, y_0 = float(terms.get("x_0", 0.0)), float(terms.get("y_0", 0.0))
    radius = radius_km or own_radius
    if radius is None:
        raise ReaderError(f"{path.name} does not say how large its body is; give radius_km")
    west = lon_0 + (transform.c - x_0) * to_lon
    north = lat_0 + (transform.f - y_0) * to_lat
    step_lon, step_lat = transform.a * to_lon, -transform.e * to_lat
    slack = 2.0 * max(step_lat, step_lon)
    south, wide = north - handle.height * step_lat, handle.width * step_lon
    if north > 90 + slack or south < -90 - slack or wide > 360 + slack:
        raise ReaderError(
            f"{path.name} reaches beyond the globe (north {north:.3f}°, {wide:.3f}° wide): it "
            "is not in degrees or metres of simple cylindrical"
        )
    chosen = bands or _bands(handle, path)
    if min(chosen) < 1 or max(chosen) > handle.count or len(chosen) not in (1, 3):
        raise ReaderError(f"bands {list(chosen)} of {path.name}: give one or three of 1..{handle.count}")
    first = chosen[0] - 1
    masks = {MaskFlags.per_dataset, MaskFlags.alpha}
    masked = any(masks & set(handle.mask_flag_enums[band - 1]) for band in chosen)
    return Frame(
        west,
        north,
        step_lon,
        step_lat,
        handle.width,
        handle.height,
        radius,
        handle.dtypes[first],
        chosen,
        handle.nodatavals[first],
        masked,
        handle.scales[first],
    )


def _bands(handle: Any, path: Path) -> tuple[int, ...]:
    kinds = list(handle.colorinterp)
    if ColorInterp.palette in kinds:
        raise ReaderError(f"{path.name} holds palette indices; expand it: gdal_translate -expand rgb")
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    if all(colour in kinds for colour in colours):
        return tuple(kinds.index(colour) + 1 for colour in colours)
    return (1,)
