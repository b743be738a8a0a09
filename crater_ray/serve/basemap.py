"""The image that the explorer's map is drawn on: one that a browser can show, checked before the start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crater_ray.config import ServeTable
from crater_ray.errors import ConfigError
from crater_ray.serve.models import BaseMap

MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
URL = "/v1/basemap"


@dataclass(frozen=True, slots=True)
class Map:
    """A file that is shown as it is."""

    path: Path
    media_type: str
    told: BaseMap


def read_map(table: ServeTable) -> Map | None:
    """What [serve] names, None where it names nothing. Raises ConfigError for what no browser shows."""
    from PIL import Image

    if table.basemap is None:
        return None
    try:
        with Image.open(table.basemap, formats=list(MEDIA_TYPES)) as image:  # the head alone is read
            kind, (width, height) = str(image.format), image.size
    except (OSError, Image.DecompressionBombError) as error:
        raise ConfigError(
            f"[serve] basemap = {str(table.basemap)!r} is no JPEG, PNG or WebP image: {error}"
        ) from None
    west, south, east, north = table.basemap_box
    if west >= east or south >= north:
        raise ConfigError(f"[serve] basemap_box = {list(table.basemap_box)}: write west, south, east, north")
    told = BaseMap(
        url=URL,
        body=table.basemap_body,
        width=width,
        height=height,
        west=west,
        east=east,
        south=south,
        north=north,
    )
    return Map(table.basemap, MEDIA_TYPES[kind], told)
