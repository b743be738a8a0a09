"""A pose's ground as its camera takes it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crater_ray.errors import BadImage
from crater_ray_mosaic import enough
from crater_ray_mosaic.camera.drawn import Camera
from crater_ray_mosaic.camera.oblique import oblique
from crater_ray_mosaic.camera.radiance import albedo, horizon, reflected, sunlit
from crater_ray_mosaic.camera.sensor import taken
from crater_ray_mosaic.grid import orthographic
from crater_ray_mosaic.pose import Pose
from crater_ray_mosaic.raster import Raster
from crater_ray_mosaic.rendering import Rendering
from crater_ray_mosaic.shade import steepness

CONTEXT = 0.3  # of a view's width, on each side: what casts shadows into it, and what a tilt brings in


def photographed(
    raster: Raster, pose: Pose, how: Rendering, camera: Camera, chart: Raster | None
) -> NDArray[np.uint8]:
    """(S, S) or (S, S, 3), the same bytes for the same pose. Raises as `view.render`.

    A camera that looks from another side than below is the ground turned, then the picture turned back.
    """
    size = how.size
    aside = camera.quarter if camera.tilt else 0
    turned = replace(pose, rotation=pose.rotation + 90.0 * aside)
    around = math.ceil(CONTEXT * size) if camera.tilt or (camera.shadows and how.kind == "dem") else 0
    spacing = 2.0 * pose.half_width_km / size
    undeclared: set[float] = set()

    def sampled(of: Raster, margin: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        lats, east = orthographic(turned, size, raster.frame.radius_km, margin, raster.frame.flattening)
        enough.refuse_limb(_middle(lats, size), pose.half_width_km, raster, how.max_invalid)
        return of.sample(pose.lon, lats, east, spacing, undeclared if of is raster else None)

    metres = 1000.0 * spacing
    if how.kind == "image":
        light, outside = sampled(raster, around)
        height = np.zeros(light.shape[:2], np.float32)
    else:
        height, outside = sampled(raster, around + 1)
        if height.ndim != 2:
            raise BadImage("a DEM has one band; choose it with option bands")
        height = height * np.float32(how.vertical * raster.frame.scale)
        if how.kind == "slope":
            light = steepness(height, metres)
        else:
            height = height - _drop(len(height), metres, 1000.0 * raster.frame.radius_km)
            map_ = None if chart is None or not camera.albedo else _grey(sampled(chart, around)[0])
            light = _lit(height, metres, turned, how, camera, map_)
        height, outside = height[1:-1, 1:-1], outside[1:-1, 1:-1]
    if camera.tilt:
        light, off = oblique(light, height, metres, camera.tilt, size)
    else:
        light = _middle(light, size)
        off = enough.missing(light)
    outside = _middle(outside, size)
    enough.refuse_missing(off, outside, how.max_invalid, raster.no_measurement(undeclared))
    if how.kind == "image" and raster.frame.dtype == "uint8":
        enough.refuse_flat(light[~off], how.flat_below)
    if np.ptp(light[~off]) < 1e-4 * max(1e-3, float(np.abs(light[~off]).max())):
        raise BadImage("flat: its camera sees one grey, as of ground wholly in shadow")
    return np.ascontiguousarray(np.rot90(taken(light, off, camera), -aside))


def _lit(
    height: NDArray[Any], metres: float, turned: Pose, how: Rendering, camera: Camera, chart: Any
) -> NDArray[np.float32]:
    """(S - 2, S - 2) the light of heights (S, S) under the pose's sun. Raises BadImage for no light."""
    azimuth = (how.sun_azimuth if turned.azimuth is None else turned.azimuth) - turned.rotation
    elevation = how.sun_elevation if turned.elevation is None else turned.elevation
    light = reflected(height, metres, azimuth, elevation, camera.tilt, camera.photometry)
    enough.refuse_even_light(light)
    if camera.shadows:
        light = light * sunlit(horizon(height[1:-1, 1:-1], metres, azimuth), elevation)
    factor = albedo(len(light), camera, chart)
    return light if factor is None else light * factor


def _drop(size: int, metres: float, radius: float) -> NDArray[np.float32]:
    """(size, size) how far a sphere lies under the plane that touches it in the middle, metres."""
    away = (np.arange(size) - (size - 1) / 2.0) * metres
    return np.asarray((away[:, None] ** 2 + away[None, :] ** 2) / (2.0 * radius), np.float32)


def _middle(values: NDArray[Any], size: int) -> NDArray[Any]:
    cut = (len(values) - size) // 2
    return values[cut : cut + size, cut : cut + size]


def _grey(values: NDArray[Any]) -> NDArray[Any]:
    return values if values.ndim == 2 else values.mean(axis=2)
