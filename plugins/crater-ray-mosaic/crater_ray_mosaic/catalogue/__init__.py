"""Crater catalogues out of tables and vector layers: ids, places in degrees east and north, diameters in km.

    file ─► table (text, frames, vector) ─► columns, conventions ─► numbers ─► craters with ids

`read_catalogue` is the one way in; `read_table` reads any other table of named columns by the same parser.
"""

from crater_ray_mosaic.catalogue.conventions import Conventions
from crater_ray_mosaic.catalogue.craters import Box, Catalogue, Floats
from crater_ray_mosaic.catalogue.numbers import numbers
from crater_ray_mosaic.catalogue.presets import PRESETS, WEST_POSITIVE, Columns
from crater_ray_mosaic.catalogue.read import read_catalogue
from crater_ray_mosaic.catalogue.table import Table, read_table

__all__ = [
    "PRESETS",
    "WEST_POSITIVE",
    "Box",
    "Catalogue",
    "Columns",
    "Conventions",
    "Floats",
    "Table",
    "numbers",
    "read_catalogue",
    "read_table",
]
