"""Consumer `match`: an image of unknown place, rotation, scale and sun -> where it lies, by an indexed
catalogue.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import Progress

from crater_ray.errors import UserError
from crater_ray.files import whole_file, write_whole
from crater_ray.plugins import Index
from crater_ray_catalogue import MatchOptions, control
from crater_ray_catalogue.candidates import Detections, find, read_detections
from crater_ray_catalogue.dedup import part
from crater_ray_catalogue.entries import Entries, entries, sphere
from crater_ray_catalogue.ground import Ground
from crater_ray_catalogue.match_figure import draw
from crater_ray_catalogue.matching import RANK, Outcome, match
from crater_ray_catalogue.scene import Scene, read_scene
from crater_ray_catalogue.stage import exclusive
from crater_ray_catalogue.tables import write_tables
from crater_ray_catalogue.window_queries import WindowQueries

if TYPE_CHECKING:
    import pyarrow.dataset as ds

MOST = 120  # candidates of an image; the best of them are asked, all may be tie points
WRITTEN = (
    "tie_points.csv",
    "control_network.csv",
    "match.gpkg",
    "transform.json",
    "georeferenced.tif",
    "match.png",
)


class Match:
    """out/<image's name>/: tie points, control network, transform, GeoTIFF, figure, report.md.

    Options: the README.
    """

    def __init__(self, **options: Any) -> None:
        self.options = MatchOptions(**options)

    def __call__(self, index: Index, neighbours: ds.Dataset, out: Path) -> Path:
        """The report's path; it says so where the image was not found. Windows asked are kept for a next run.

        Raises UserError for an image or candidates that cannot be read, and for an index of no craters.
        """
        o = self.options
        with exclusive(out / o.image.stem):
            out = out / o.image.stem
            everything = chosen(entries(index), o.catalogue)
            ground = Ground(everything, sphere(everything, o.body))
            scene = read_scene(o.image)
            detections = candidates(scene, o)
            queries = WindowQueries(index, scene, out, everything.ids, RANK)
            with Progress(console=Console(stderr=True), transient=True) as bar:
                task = bar.add_task(f"candidates of {scene.name} asked", total=None)
                outcome = match(
                    scene,
                    detections,
                    ground,
                    queries,
                    o,
                    lambda done, total: bar.update(task, completed=done, total=total),
                )
            queries.save()
            for name in WRITTEN:  # of an earlier run that came to something else
                (out / name).unlink(missing_ok=True)
            table = write(index, scene, detections, ground, outcome, o, out)
            text = report(scene, detections, ground, outcome, table, len(queries))
            write_whole(out / "report.md", text.encode())
            return out / "report.md"


def chosen(everything: Entries, catalogue: str | None) -> Entries:
    """The entries that an image is matched with.

    Raises UserError where it takes a choice, or there is none.
    """
    there = sorted(set(everything.catalogue))
    if catalogue is None:
        if len(there) > 1:
            raise UserError(f"the index holds {len(there)} catalogues; choose by catalogue = {there[0]!r}")
        return everything
    if catalogue not in there:
        raise UserError(f"the index has no catalogue {catalogue!r}; it has {', '.join(map(repr, there))}")
    return part(everything, np.array([one == catalogue for one in everything.catalogue], bool))


def candidates(scene: Scene, options: MatchOptions) -> Detections:
    """Those of another detector, or found here. Raises UserError where there are too few to match."""
    if options.candidates is not None:
        detections = read_detections(options.candidates)
    else:
        detections = find(scene, options.pixels, MOST, options.illumination)
    if len(detections) < 3:
        raise UserError(
            f"{len(detections)} craters were found in {scene.name}, and a match takes three; give a larger "
            "piece, fewer `pixels`, the other `illumination`, or `candidates` of another detector"
        )
    return detections


def write(
    index: Index,
    scene: Scene,
    detections: Detections,
    ground: Ground,
    outcome: Outcome,
    options: MatchOptions,
    out: Path,
) -> pd.DataFrame | None:
    """All files but the report; the table of tie points. None where the image was not found."""
    placed, ties = outcome.placed, outcome.ties
    if placed is None or ties is None:
        return None
    ranks = {one.entry: one.rank for one in outcome.verified}
    table = control.tie_table(placed, ties, detections, ground, ranks)
    body = options.body or ground.entries.body
    net = control.network(table, scene.name, body, ground.radius)
    write_tables(out, "match", {"tie_points": table}, ground.body)
    with whole_file(out / "control_network.csv") as own:
        net.to_csv(own, index=False)
    control.write_transform(out / "transform.json", placed, outcome, (scene.width, scene.height))
    control.georeference(options.image, placed, out / "georeferenced.tif")
    draw(index, scene, detections, ground, placed, ties, options.pixels, out / "match.png")
    return table


def report(
    scene: Scene,
    detections: Detections,
    ground: Ground,
    outcome: Outcome,
    table: pd.DataFrame | None,
    windows: int,
) -> str:
    """Markdown: where the image lies and how well, or why it was not found."""
    right = sum(one.rank is not None for one in outcome.verified)
    effort = [
        f"- candidates: {len(detections)}, of them asked: {outcome.asked}; windows: {windows}; "
        f"transforms judged: {outcome.tried}"
    ]
    if outcome.placed is None or table is None:
        why = (
            f"the best transform put {right} of {len(outcome.verified)} entries where the index knows them; "
            f"{outcome.chance:.2g} such by chance are expected"
            if outcome.verified
            else "no three candidates lie as entries of the index do"
        )
        return "\n".join([f"# {scene.name}: not found", "", f"- {why}", *effort]) + "\n"
    placed = outcome.placed
    lat, lon = (float(one) for one in placed.place((scene.width - 1) / 2, (scene.height - 1) / 2))
    off = table[["residual_px", "residual_km", "residual_d"]].median()
    wide = scene.width * placed.scale, scene.height * placed.scale
    lines = [
        f"# {scene.name}: found",
        "",
        f"- middle: {abs(lat):.2f}° {'S' if lat < 0 else 'N'}, {abs(lon):.2f}° {'W' if lon < 0 else 'E'}",
        f"- scale: {placed.scale:.3f} km a pixel, {wide[0]:.0f} x {wide[1]:.0f} km",
        f"- up points {placed.rotation:.1f}° clockwise from north",
        f"- tie points: {len(table)}; residuals in the median {off['residual_px']:.2f} pixels, "
        f"{off['residual_km']:.2f} km, {off['residual_d']:.3f} D",
        f"- entries that the index knows where the transform puts them: {right} of {len(outcome.verified)}; "
        f"expected false: {outcome.chance:.1g}",
        *effort,
        "",
        "![tie points and map](match.png)",
        "",
        "Open georeferenced.tif and match.gpkg in QGIS.",
    ]
    return "\n".join(lines) + "\n"
