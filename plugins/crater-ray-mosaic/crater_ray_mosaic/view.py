"""A pose to pixels: sampled, shaded, stretched, and refused with a reason when there is too little to see."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crater_ray.errors import BadImage
from crater_ray_mosaic.grid import orthographic
from crater_ray_mosaic.options import Kind
from crater_ray_mosaic.pose import Pose
from crater_ray_mosaic.raster import Raster
from crater_ray_mosaic.shade import greys, lambert, steepness, stretched

LEAST = 8  # pixels a side, however coarse


@dataclass(frozen=True, slots=True)
class Rendering:
    """What turns a pose into pixels beside the raster."""

    kind: Kind = "image"
    size: int = 224  # pixels a side
    vertical: float = 1.0  # metres a unit of the DEM
    sun_azimuth: float = 270.0  # of a DEM's pose without a sun
    sun_elevation: float = 30.0
    stretch: Literal["auto", "always"] = "auto"  # auto: not for 8-bit images
    max_invalid: float = 0.1
    flat_below: float = 1.0  # grey levels
    resolution_km: float = field(
        default=0.0, repr=False
    )  # that a pixel is no finer than; 0: as the raster is


def render(raster: Raster, pose: Pose, how: Rendering) -> NDArray[Any]:
    """(S, S) or (S, S, 3) uint8, the same bytes for the same pose.

    With a resolution it is rendered in pixels of that size and enlarged, as a coarser camera would show it.
    Raises BadImage for a centre or too large a share outside the raster, too little data, or a flat view;
    OSError when the raster can no longer be read.
    """
    if how.resolution_km:
        side = max(LEAST, math.ceil(2.0 * pose.half_width_km / how.resolution_km))
        if side < how.size:
            seen = Image.fromarray(render(raster, pose, replace(how, size=side, resolution_km=0.0)))
            return np.asarray(seen.resize((how.size, how.size), Image.Resampling.BILINEAR))
    if not raster.holds(pose.lat, pose.lon):
        raise BadImage("outside: its centre is not on the raster")
    margin = 0 if how.kind == "image" else 1
    lats, east = orthographic(pose, how.size, raster.frame.radius_km, margin, raster.frame.flattening)
    spacing = 2.0 * pose.half_width_km / how.size
    beyond_limb = float(np.isnan(lats).mean())
    if beyond_limb > how.max_invalid:
        raise BadImage(
            f"no data: {beyond_limb:.0%} of it beyond the limb: a view of {2 * pose.half_width_km:.0f} km is "
            f"wider than the disc of a body of {raster.frame.radius_km:.0f} km radius; "
            f"at most {how.max_invalid:.0%}"
        )
    undeclared: set[float] = set()
    values, outside = raster.sample(pose.lon, lats, east, spacing, undeclared)
    if margin:
        values, outside = _shaded(raster, pose, how, values, 1000.0 * spacing), outside[1:-1, 1:-1]
    invalid = ~np.isfinite(values) if values.ndim == 2 else ~np.isfinite(values).all(axis=2)
    _enough(invalid, outside, how.max_invalid, raster.no_measurement(undeclared))
    eight_bit = how.kind == "image" and raster.frame.dtype == "uint8"
    if eight_bit and (spread := float(values[~invalid].std())) < how.flat_below:
        raise BadImage(f"flat: a standard deviation of {spread:.2f} grey levels, under {how.flat_below:g}")
    if how.stretch == "always" or not eight_bit:
        values, told = stretched(values)
        if not told:
            raise BadImage("flat: all of its pixels have one value")
    return greys(values, invalid, pose.brightness, pose.contrast)


def _shaded(raster: Raster, pose: Pose, how: Rendering, height: NDArray[Any], metres: float) -> NDArray[Any]:
    if height.ndim != 2:
        raise BadImage("a DEM has one band; choose it with option bands")
    height = height * np.float32(how.vertical * raster.frame.scale)
    if how.kind == "slope":
        return steepness(height, metres)
    azimuth = how.sun_azimuth if pose.azimuth is None else pose.azimuth
    elevation = how.sun_elevation if pose.elevation is None else pose.elevation
    facing = lambert(height, metres, azimuth - pose.rotation, elevation)
    if np.nanmax(facing, initial=-math.inf) - np.nanmin(facing, initial=math.inf) < 1e-4:
        raise BadImage("flat: every slope faces the sun alike (of a DEM in kilometres, give vertical = 1000)")
    return facing


def _enough(invalid: NDArray[np.bool_], outside: NDArray[np.bool_], most: float, no_measurement: str) -> None:
    share, beyond = float(invalid.mean()), float(outside.mean())
    if share > most:
        said = f"; no measurement: {no_measurement}" if no_measurement and share > beyond else ""
        raise BadImage(
            f"no data: {share:.0%} of it, {beyond:.0%} outside the raster; at most {most:.0%}{said}"
        )
