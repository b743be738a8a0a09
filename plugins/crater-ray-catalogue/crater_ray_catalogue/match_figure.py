"""One picture of a match: the image with its tie points, beside the catalogue's own views where it lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon

from crater_ray.errors import QueryError
from crater_ray.files import whole_file
from crater_ray.plugins import Index
from crater_ray_catalogue.candidates import Detections
from crater_ray_catalogue.ground import Ground
from crater_ray_catalogue.registration import Georeference, TiePoints, in_view
from crater_ray_catalogue.scene import Scene

VIEWS = 40  # of the catalogue, the widest
TIE, OTHER = "tab:orange", "tab:cyan"


def draw(
    index: Index,
    scene: Scene,
    detections: Detections,
    ground: Ground,
    placed: Georeference,
    ties: TiePoints,
    least: float,
    path: Path,
) -> Path:
    """A PNG: candidates, tie points with their names and where the transform puts them; the map beside."""
    figure = Figure(figsize=(14, 7.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(
        scene.filled, cmap="gray", vmin=np.percentile(scene.filled, 1), vmax=np.percentile(scene.filled, 99)
    )
    for x, y, width in zip(detections.x, detections.y, detections.diameter, strict=True):
        left.add_patch(Circle((x, y), width / 2, fill=False, color=OTHER, lw=0.5, alpha=0.5))
    size = scene.width, scene.height
    names = {entry: ground.entries.names[entry] for entry in ties.entry.tolist()}
    places = ground.entries.places
    xs, ys = placed.pixels(places.lat[ties.entry], places.lon[ties.entry])
    for number, entry, x, y in zip(ties.detections.tolist(), ties.entry.tolist(), xs, ys, strict=True):
        at = detections.x[number], detections.y[number]
        left.add_patch(Circle(at, detections.diameter[number] / 2, fill=False, color=TIE, lw=1.4))
        left.plot(x, y, "+", color=TIE, ms=6)
        left.annotate(names[entry], at, color="white", fontsize=7, ha="center")
    left.set(
        xlim=(-0.5, size[0] - 0.5), ylim=(size[1] - 0.5, -0.5), title=f"{scene.name}: {len(ties)} tie points"
    )
    left.axis("off")
    _map(index, ground, placed, ties, size, least, right)
    with whole_file(path) as own:
        figure.savefig(own, format="png", dpi=110)
    return path


def _map(
    index: Index,
    ground: Ground,
    placed: Georeference,
    ties: TiePoints,
    size: tuple[int, int],
    least: float,
    axes: object,
) -> None:
    """The catalogue's views laid where they belong, rims of entries, and the image's outline."""
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    entries, _, _ = in_view(placed, ground, size, least)
    order = entries[np.argsort(-ground.diameter[entries], kind="stable")]
    places = ground.entries.places
    table = index.items(["id", "half_width_km"]) if "half_width_km" in index.items().column_names else None
    widths = (
        dict(zip(*(table[name].to_pylist() for name in ("id", "half_width_km")), strict=True))
        if table
        else {}
    )
    where = placed.plane.of(places.lat[order], places.lon[order])
    for entry, at in list(zip(order.tolist(), where, strict=True))[:VIEWS]:
        view = ground.entries.views[entry][-1]
        half = widths.get(view)
        if half is None:
            continue
        try:
            picture = index.image(view)
        except QueryError:
            continue  # the map is a backdrop: rims are drawn all the same
        extent = (at.real - half, at.real + half, at.imag - half, at.imag + half)
        axes.imshow(picture, extent=extent, zorder=1)
    tied = set(ties.entry.tolist())
    for entry, at in zip(order.tolist(), where, strict=True):
        colour = TIE if entry in tied else OTHER
        axes.add_patch(
            Circle((at.real, at.imag), ground.diameter[entry] / 2, fill=False, color=colour, lw=1.2, zorder=3)
        )
        if entry in tied:
            axes.annotate(
                ground.entries.names[entry],
                (at.real, at.imag),
                color="white",
                fontsize=7,
                ha="center",
                zorder=4,
            )
    corners = placed.ground(
        np.array([-0.5, size[0] - 0.5, size[0] - 0.5, -0.5]),
        np.array([-0.5, -0.5, size[1] - 0.5, size[1] - 0.5]),
    )
    axes.add_patch(
        Polygon(np.stack([corners.real, corners.imag], 1), fill=False, color="tab:red", lw=1.2, zorder=5)
    )
    reach = 1.05 * float(np.abs(corners).max())
    axes.set(
        xlim=(-reach, reach),
        ylim=(-reach, reach),
        aspect="equal",
        facecolor="0.2",
        xlabel="km east",
        ylabel="km north",
        title=f"the catalogue's views about {placed.plane.lat:.2f}, {placed.plane.lon:.2f}",
    )
