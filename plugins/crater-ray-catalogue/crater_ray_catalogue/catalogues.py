"""The reader `catalogues`: the views of two catalogues in one index, told apart by the column `catalogue`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from crater_ray.errors import BadImage, ReaderError
from crater_ray.types import Item
from crater_ray_catalogue import CataloguesOptions
from crater_ray_mosaic.figure import compare, of_raster
from crater_ray_mosaic.mosaic import COLUMNS, Mosaic
from crater_ray_mosaic.options import MosaicOptions, unread

SIDES = ("a", "b")
SECOND = "second_"
COLUMNS_OF = ("id_column", "lat_column", "lon_column", "diameter_column")
CONVENTIONS = ("west_positive", "diameter_unit", "diameter_is", "latitude", "angle_unit", "layer", "drop")


def catalogues(**options: Any) -> Catalogues:
    """The reader of these options (see CataloguesOptions). Raises ReaderError as `mosaic` does."""
    return Catalogues(CataloguesOptions(**options))


class Catalogues:
    """Reader. The first catalogue's items are called a:<crater>_x3, the second's b:<crater>_x3."""

    def __init__(self, options: CataloguesOptions) -> None:
        self.options = options
        shared = {
            name: getattr(options, name)
            for name in MosaicOptions.model_fields
            if getattr(options, name) != MosaicOptions.model_fields[name].default
        }
        apart = {
            name.removeprefix(SECOND): getattr(options, name)
            for name in CataloguesOptions.model_fields
            if name.startswith(SECOND) and getattr(options, name) is not None
        }
        recognise = "preset" not in apart and not any(name.endswith("_column") for name in apart)
        if "raster" in apart:  # where the first raster lies says nothing of the second
            shared_second = {k: v for k, v in shared.items() if k not in ("crs", "extent", "nodata", "bands")}
        else:
            shared_second = dict(shared)
        own = {*CONVENTIONS, "preset", *COLUMNS_OF} if "preset" in apart else {"layer", "drop"}
        shared_second = {name: value for name, value in shared_second.items() if name not in own}
        kinds = options.kind, options.second_kind or options.kind
        shared, shared_second = (
            {name: value for name, value in given.items() if name not in unread(kind)[0]}
            for given, kind in zip((shared, shared_second), kinds, strict=True)
        )
        if options.min_diameter_km is not None:
            shared_second["min_diameter_km"] = options.min_diameter_km / options.ratio
        if options.max_diameter_km is not None:
            shared_second["max_diameter_km"] = options.max_diameter_km * options.ratio
        self._mosaics = {
            "a": Mosaic(MosaicOptions(**shared)),
            "b": Mosaic(MosaicOptions(**{**shared_second, **apart}), recognise=recognise),
        }
        compare(*(of_raster(mosaic.raster) for mosaic in self._mosaics.values()))
        for mosaic in self._mosaics.values():
            if mosaic.options.drop:
                _ = mosaic.catalogue  # a column or a value that is not there is told at once

    @property
    def columns(self) -> pa.Schema:
        return COLUMNS.append(pa.field("catalogue", pa.string())).append(pa.field("crater", pa.string()))

    def parts(self) -> list[str]:
        return [f"{side}-{part}" for side in SIDES for part in self._mosaics[side].parts()]

    def read(self, part: str) -> Iterator[Item]:
        side, dash, rest = part.partition("-")
        if not dash or side not in self._mosaics:
            raise ReaderError(f"the reader of two catalogues has no part {part!r}")
        for item in self._mosaics[side].read(rest):
            yield replace(
                item,
                id=f"{side}:{item.id}",
                group=f"{side}:{item.group}",
                uri=f"{side}:{item.uri}",
                columns={**item.columns, "catalogue": side, "crater": item.group},
            )

    def load(self, uri: str) -> NDArray[Any]:
        side, colon, rest = uri.partition(":")
        if not colon or side not in self._mosaics:
            raise BadImage(f"uri {uri!r} does not begin with the catalogue, a: or b:")
        return self._mosaics[side].load(rest)
