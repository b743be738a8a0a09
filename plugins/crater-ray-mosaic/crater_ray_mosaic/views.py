"""Which views a crater gets. A random number is a hash of seed, crater and its use: no order enters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import xxhash

from crater_ray_mosaic.options import ViewOptions
from crater_ray_mosaic.pose import Pose, wrapped


@dataclass(frozen=True, slots=True)
class View:
    """One item to be: its id, its crater and its pose."""

    id: str
    crater: str
    pose: Pose
    diameter_km: float | None


def draw(seed: int, *words: object) -> float:
    """A number in [0, 1) that only its arguments decide."""
    return (xxhash.xxh3_64_intdigest("|".join(map(str, (seed, *words))).encode()) >> 11) / 2.0**53


def gallery_views(
    crater: str, lat: float, lon: float, diameter: float, options: ViewOptions, shaded: bool
) -> Iterator[View]:
    """One view a scale, centred; `<crater>_x2`."""
    sun = (options.sun_azimuth, options.sun_elevation) if shaded else (None, None)
    for scale in options.scales:
        pose = Pose(lat, wrapped(lon), scale * diameter / 2, *sun)
        yield View(f"{crater}_x{scale:g}", crater, pose, diameter)


def query_views(
    crater: str, lat: float, lon: float, diameter: float, options: ViewOptions, shaded: bool, radius_km: float
) -> Iterator[View]:
    """Views of random scale, centre, rotation, and sun (DEM) or greys (image); `<crater>_q1` …"""
    for number in range(1, options.queries_per_crater + 1):

        def between(name: str, low: float, high: float, number: int = number) -> float:
            return low + (high - low) * draw(options.seed, crater, number, name)

        def within(name: str, reach: float, number: int = number) -> float:
            return reach * (2 * draw(options.seed, crater, number, name) - 1)

        offset = options.query_offset * diameter
        centre = moved(lat, lon, within("east", offset), within("north", offset), radius_km)
        half_width = between("scale", *options.query_scale) * diameter / 2
        rotation = within("rotation", options.query_rotation)
        camera = None
        if options.query_camera and between("taken", 0.0, 1.0) < options.query_camera.share:
            camera = int(between("camera", 0.0, 2.0**32))
        if shaded:
            pose = Pose(
                *centre,
                half_width,
                between("azimuth", *options.query_azimuth) % 360.0,
                between("elevation", *options.query_elevation),
                rotation,
                camera=camera,
            )
        else:
            pose = Pose(
                *centre,
                half_width,
                None,
                None,
                rotation,
                within("brightness", options.query_brightness),
                1.0 + within("contrast", options.query_contrast),
                camera,
            )
        yield View(f"{crater}_q{number}", crater, pose, diameter)


def moved(lat: float, lon: float, east_km: float, north_km: float, radius_km: float) -> tuple[float, float]:
    """The place at (east, north) on the plane that touches the sphere at (lat, lon)."""
    east, north = east_km / radius_km, north_km / radius_km
    toward = math.sqrt(max(0.0, 1.0 - east * east - north * north))
    sine, cosine = math.sin(math.radians(lat)), math.cos(math.radians(lat))
    new = math.degrees(math.asin(max(-1.0, min(1.0, toward * sine + north * cosine))))
    return new, wrapped(lon + math.degrees(math.atan2(east, toward * cosine - north * sine)))
