"""The reader `catalogues`: the views of two catalogues in one index, told apart by the column `catalogue`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from crater_ray.errors import BadImage, ReaderError
from crater_ray.types import Item
from crater_ray_catalogue import CataloguesOptions
from crater_ray_mosaic.catalogue import PRESETS, Catalogue
from crater_ray_mosaic.mosaic import COLUMNS, Mosaic
from crater_ray_mosaic.options import MosaicOptions

SIDES = ("a", "b")
SECOND = "second_"


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
            if name.startswith(SECOND) and name != "second_drop" and getattr(options, name) is not None
        }
        if "raster" in apart:  # where the first raster lies says nothing of the second
            shared_second = {k: v for k, v in shared.items() if k not in ("extent", "nodata", "bands")}
        else:
            shared_second = dict(shared)
        if "preset" in apart:
            shared_second = {k: v for k, v in shared_second.items() if not k.endswith("_column")}
        if options.min_diameter_km is not None:
            shared_second["min_diameter_km"] = options.min_diameter_km / options.ratio
        if options.max_diameter_km is not None:
            shared_second["max_diameter_km"] = options.max_diameter_km * options.ratio
        self._mosaics = {
            "a": Mosaic(MosaicOptions(**shared)),
            "b": Mosaic(MosaicOptions(**{**shared_second, **apart})),
        }
        for side, drop in zip(SIDES, (options.drop, options.second_drop), strict=True):
            if drop:
                mosaic = self._mosaics[side]
                mosaic.catalogue = without(mosaic.catalogue, mosaic.options, drop)

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


def without(catalogue: Catalogue, options: MosaicOptions, drop: Mapping[str, str]) -> Catalogue:
    """The catalogue without rows that have the value in the column, for any of `drop`.

    Raises ReaderError for a column that the file has not.
    """
    path = Path(options.catalogue or "")
    named = options.id_column or (PRESETS[options.preset].id if options.preset else None)
    if named is None:
        raise ReaderError(f"drop needs ids, and {path.name} has none; give option id_column")
    try:
        header = pa_csv.open_csv(path).schema.names
        as_text = pa_csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()))
        table = pa_csv.read_csv(path, convert_options=as_text)
    except (OSError, pa.ArrowInvalid) as error:
        raise ReaderError(f"cannot read {path.name} to drop rows of it: {error}") from None
    missing = [name for name in (named, *drop) if name not in header]
    if missing:
        raise ReaderError(
            f"{path.name} has no column {missing[0]!r} to drop rows by; it has {', '.join(header)}"
        )
    gone: set[str] = set()
    for column, value in drop.items():
        gone |= {id.strip() for id in table.filter(pc.equal(table[column], value))[named].to_pylist() if id}
    return catalogue.where(np.array([id not in gone for id in catalogue.ids], bool))
