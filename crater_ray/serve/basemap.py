"""The images that the explorer's map is drawn on: what a browser can show, checked before the start."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlencode

from crater_ray.config import ServeTable
from crater_ray.errors import ConfigError
from crater_ray.serve.models import BaseMap

MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
URL = "/v1/basemap"
SQUARE = 1.02  # between the sides of a pixel, up to which they are one

logger = logging.getLogger("crater_ray")


@dataclass(frozen=True, slots=True)
class Map:
    """A file that is shown as it is."""

    path: Path
    media_type: str
    reply: BaseMap


def read_maps(table: ServeTable) -> tuple[Map, ...]:
    """What [serve] names: one a body, or one alone. Raises ConfigError for what no browser shows."""
    west, south, east, north = table.basemap_box
    if west >= east or south >= north:
        raise ConfigError(f"[serve] basemap_box = {list(table.basemap_box)}: write west, south, east, north")
    if table.basemap is None:
        return ()
    if isinstance(table.basemap, Path):
        return (_read(table, table.basemap, table.basemap_body, URL),)
    return tuple(
        _read(table, path, body, f"{URL}?{urlencode({'body': body})}") for body, path in table.basemap.items()
    )


def of_body(maps: Sequence[Map], body: str | None) -> Map | None:
    """The map of a body; without one the first there is."""
    return next((one for one in maps if body is None or one.reply.body == body), None)


def _read(table: ServeTable, path: Path, body: str | None, url: str) -> Map:
    from PIL import Image

    try:
        with Image.open(path, formats=list(MEDIA_TYPES)) as image:  # the head alone is read
            kind, (width, height) = str(image.format), image.size
    except (OSError, Image.DecompressionBombError) as error:
        raise ConfigError(f"[serve] basemap = {str(path)!r} is no JPEG, PNG or WebP image: {error}") from None
    west, south, east, north = table.basemap_box
    stretched = (width / height) / ((east - west) / (north - south))
    if not 1 / SQUARE < stretched < SQUARE:
        _warn(
            f"[serve] basemap {path.name} is {width} by {height} pixels, and basemap_box spans "
            f"{east - west:g} by {north - south:g} degrees: its pixels are not square; if that is not "
            "meant, correct basemap_box"
        )
    box = {"west": west, "east": east, "south": south, "north": north}
    return Map(path, MEDIA_TYPES[kind], BaseMap(url=url, body=body, width=width, height=height, **box))


@cache
def _warn(text: str) -> None:
    """Once a process."""
    logger.warning(text)
