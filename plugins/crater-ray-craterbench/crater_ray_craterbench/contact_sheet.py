"""The contact sheet of a bench: a crater a row, its gallery views, then its queries, rims drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from crater_ray_mosaic.covisible import project
from crater_ray_mosaic.mosaic import Mosaic
from crater_ray_mosaic.pose import Pose, to_uri
from crater_ray_mosaic.sheet import Tile, sheet
from crater_ray_mosaic.views import View, draw

ROWS = 10


def bench_sheet(
    gallery: Mosaic, query: Mosaic, shown: Sequence[View], asked: Sequence[View], seed: int
) -> Image.Image:
    """Of queried craters chosen by hash: the first by latitude, the one nearest the seam, then any others."""
    views: dict[str, list[tuple[Mosaic, View]]] = {}
    for mosaic, some in ((gallery, shown), (query, asked)):
        for view in some:
            views.setdefault(view.crater, []).append((mosaic, view))
    places = {view.crater: view.pose for view in asked}
    order = sorted(places, key=lambda crater: draw(seed, "sheet", crater))
    edges = [
        max(order, key=lambda crater: abs(places[crater].lat)),
        max(order, key=lambda crater: abs(places[crater].lon)),
    ]  # where framing goes wrong first
    chosen = list(dict.fromkeys([*edges, *order]))[:ROWS]
    columns = max(len(views[crater]) for crater in chosen)
    tiles: list[Tile] = []
    for crater in chosen:
        row = [_tile(mosaic, view) for mosaic, view in views[crater]]
        tiles += row + [Tile(np.full((2, 2), 24, np.uint8))] * (columns - len(row))
    return sheet(tiles, columns, 192)


def _tile(mosaic: Mosaic, view: View) -> Tile:
    pose = view.pose
    sun = [] if pose.azimuth is None else [f"sun {pose.azimuth:.0f} el {pose.elevation:.0f}"]
    place = f"{pose.lat:.2f} {pose.lon:.2f} {2 * pose.half_width_km:.1f} km"
    return Tile(
        mosaic.load(to_uri(pose)),
        [view.id, place, *sun],
        _rims(mosaic, view, pose),
        None if pose.azimuth is None else pose.azimuth - pose.rotation,
    )


def _rims(mosaic: Mosaic, view: View, pose: Pose) -> list[tuple[float, float, float]]:
    """Its own crater's rim, and those of the co-visible ones."""
    rims = mosaic.co_visible.circles(pose)
    row = list(mosaic.chosen.ids).index(view.crater)
    c = mosaic.chosen
    x, y = project(pose, c.lat[row : row + 1], c.lon[row : row + 1], mosaic.raster.frame.radius_km)
    own = (float(0.5 + x[0] / 2), float(0.5 - y[0] / 2), float(c.diameter[row] / pose.half_width_km / 4))
    return [own, *(rim for rim in rims if rim != own)]
