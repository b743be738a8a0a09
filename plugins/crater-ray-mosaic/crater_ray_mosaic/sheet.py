"""A contact sheet: views side by side with the catalogue's rims, for a person to verify."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

_RIM, _SUN, _INK, _PAPER = (255, 210, 60), (255, 120, 60), (235, 235, 235), (24, 24, 28)
_LINE = 13  # pixels a caption line


@dataclass(frozen=True, slots=True)
class Tile:
    """One view on the sheet. Circles are (x, y, radius) in shares of the view's side, from its upper left."""

    image: NDArray[Any]  # (S, S) or (S, S, 3) uint8
    caption: Sequence[str] = ()
    circles: Sequence[tuple[float, float, float]] = ()
    sun: float | None = None  # where light comes from, degrees clockwise from the image's up


def sheet(tiles: Sequence[Tile], columns: int = 6, side: int = 224) -> Image.Image:
    """An RGB image of the tiles in rows; rims dashed so that they can be told from what they lie on."""
    lines = max((len(tile.caption) for tile in tiles), default=0)
    wide, high = side + 6, side + lines * _LINE + 8
    page = Image.new("RGB", (columns * wide + 6, max(1, math.ceil(len(tiles) / columns)) * high + 6), _PAPER)
    draw = ImageDraw.Draw(page)
    for number, tile in enumerate(tiles):
        left, top = 6 + number % columns * wide, 6 + number // columns * high
        picture = Image.fromarray(np.ascontiguousarray(tile.image)).convert("RGB").resize((side, side))
        pen = ImageDraw.Draw(picture)
        for x, y, radius in tile.circles:
            box = [(x - radius) * side, (y - radius) * side, (x + radius) * side, (y + radius) * side]
            for angle in range(0, 360, 30):
                pen.arc(box, angle, angle + 8, fill=_RIM, width=1)
        if tile.sun is not None:
            a, middle, reach = math.radians(tile.sun), side / 2, side / 2 - 4
            tip = (middle + reach * math.sin(a), middle - reach * math.cos(a))
            pen.ellipse([tip[0] - 4, tip[1] - 4, tip[0] + 4, tip[1] + 4], fill=_SUN)
        page.paste(picture, (left, top))
        for line, text in enumerate(tile.caption):
            draw.text((left, top + side + 2 + line * _LINE), text, fill=_INK)
    return page
