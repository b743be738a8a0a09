"""A pose to pixels: sampled, shaded, stretched, and refused with a reason when there is too little to see."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crater_ray.errors import BadImage
from crater_ray_mosaic import enough
from crater_ray_mosaic.camera.drawn import drawn
from crater_ray_mosaic.camera.photograph import photographed
from crater_ray_mosaic.grid import orthographic
from crater_ray_mosaic.pose import Pose, to_uri
from crater_ray_mosaic.raster import Raster
from crater_ray_mosaic.rendering import Rendering
from crater_ray_mosaic.shade import greys, lambert, steepness, stretched

LEAST = 8  # pixels a side, however coarse


def render(raster: Raster, pose: Pose, how: Rendering, albedo: Raster | None = None) -> NDArray[Any]:
    """(S, S) or (S, S, 3) uint8, the same bytes for the same pose.

    albedo: a map of bright and dark ground, for the cameras that use one.

    With a resolution it is rendered in pixels of that size and enlarged, as a coarser camera would show it.
    Raises BadImage for a centre or too large a share outside the raster, too little data, or a flat view;
    OSError when the raster can no longer be read.
    """
    if how.resolution_km:
        side = max(LEAST, math.ceil(2.0 * pose.half_width_km / how.resolution_km))
        if side < how.size:
            seen = Image.fromarray(render(raster, pose, replace(how, size=side, resolution_km=0.0), albedo))
            return np.asarray(seen.resize((how.size, how.size), Image.Resampling.BILINEAR))
    if not raster.holds(pose.lat, pose.lon):
        raise BadImage("outside: its centre is not on the raster")
    if pose.camera is not None:
        if how.camera is None:
            raise BadImage(f"uri {to_uri(pose)!r} names a camera; the reader has no table query_camera")
        return photographed(raster, pose, how, drawn(how.camera, pose.camera), albedo)
    margin = 0 if how.kind == "image" else 1
    lats, east = orthographic(pose, how.size, raster.frame.radius_km, margin, raster.frame.flattening)
    spacing = 2.0 * pose.half_width_km / how.size
    enough.refuse_limb(lats, pose.half_width_km, raster, how.max_invalid)
    undeclared: set[float] = set()
    values, outside = raster.sample(pose.lon, lats, east, spacing, undeclared)
    if margin:
        values, outside = _shaded(raster, pose, how, values, 1000.0 * spacing), outside[1:-1, 1:-1]
    invalid = enough.missing(values)
    enough.refuse_missing(invalid, outside, how.max_invalid, raster.no_measurement(undeclared))
    eight_bit = how.kind == "image" and raster.frame.dtype == "uint8"
    if eight_bit:
        enough.refuse_flat(values[~invalid], how.flat_below)
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
    enough.refuse_even_light(facing)
    return facing
