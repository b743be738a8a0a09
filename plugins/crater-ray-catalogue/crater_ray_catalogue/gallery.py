"""Pictures: a sheet of craters with their names, and a map of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from crater_ray.errors import QueryError
from crater_ray.files import whole_file
from crater_ray.plugins import Index

SIDE, LINE, COLUMNS = 160, 16, 6  # pixels, pixels, tiles
PAPER, INK = (24, 24, 28), (235, 235, 235)
EDGES = {"": PAPER, "like": (90, 200, 120), "unlike": (220, 90, 80)}


@dataclass(frozen=True, slots=True)
class Tile:
    """One view: its id, what stands below it, and its edge."""

    view: str
    caption: str
    edge: str = ""  # "like" or "unlike" for an example


def gallery(index: Index, tiles: Sequence[Tile], path: Path) -> Path:
    """A PNG of the views in rows. A view that cannot be read is left blank and says so."""
    rows = -(-max(len(tiles), 1) // COLUMNS)
    wide, high = SIDE + 8, SIDE + LINE + 8
    page = Image.new("RGB", (COLUMNS * wide + 4, rows * high + 4), PAPER)
    draw = ImageDraw.Draw(page)
    for number, tile in enumerate(tiles):
        left, top = 4 + number % COLUMNS * wide, 4 + number // COLUMNS * high
        draw.rectangle([left, top, left + SIDE + 3, top + SIDE + 3], fill=EDGES[tile.edge])
        caption = tile.caption
        try:
            page.paste(Image.fromarray(index.image(tile.view)).resize((SIDE, SIDE)), (left + 2, top + 2))
        except QueryError:
            caption += " (not readable)"
        draw.text((left + 2, top + SIDE + 4), caption, fill=INK)
    with whole_file(path) as own:
        page.save(own, "PNG")
    return path


def class_map(lat: NDArray[np.float64], lon: NDArray[np.float64], of: NDArray[np.int64], path: Path) -> Path:
    """A PNG with a panel a class: its craters in colour, all others in grey."""
    count = int(of.max(initial=0)) + 1
    rows = -(-count // 3)
    high = 4.2 * float(np.clip((np.ptp(lat) + 1) / (np.ptp(lon) + 1), 0.3, 1.5)) + 0.5  # inches a panel
    figure = Figure(figsize=(13, rows * high), layout="constrained")
    palette = colormaps["tab10"]
    for number, axes in enumerate(figure.subplots(rows, 3, squeeze=False, sharex=True, sharey=True).flat):
        if number >= count:
            axes.axis("off")
            continue
        mine = of == number
        axes.scatter(lon, lat, s=1, color="0.87", linewidths=0)
        axes.scatter(lon[mine], lat[mine], s=4, color=palette(number % 10), linewidths=0)
        axes.set_title(f"class {number + 1}: {int(mine.sum()):,}", fontsize=9)
    figure.supxlabel("longitude, °E", fontsize=9)
    figure.supylabel("latitude, °N", fontsize=9)
    with whole_file(path) as own:
        figure.savefig(own, format="png", dpi=110)
    return path
