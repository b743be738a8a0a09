"""Consumer `analogues`: craters of the examples' form, and the catalogue sorted into classes of form."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console

from crater_ray.errors import UserError
from crater_ray.files import whole_file, write_whole
from crater_ray.plugins import Index
from crater_ray_catalogue import AnaloguesOptions
from crater_ray_catalogue.classes import Classes, classes
from crater_ray_catalogue.entries import Entries, entries, sphere
from crater_ray_catalogue.gallery import Tile, class_map, gallery
from crater_ray_catalogue.morphology import forms, likeness, picked
from crater_ray_catalogue.proposals import unit
from crater_ray_catalogue.stage import exclusive, key
from crater_ray_catalogue.tables import write_tables
from crater_ray_mosaic.bodies import radius_km

if TYPE_CHECKING:
    import pyarrow.dataset as ds


class Analogues:
    """out/analogues.gpkg and CSVs, analogues.png, classes/, report.md. Options: see the README."""

    def __init__(self, **options: Any) -> None:
        self.options = AnaloguesOptions(**options)

    def __call__(self, index: Index, neighbours: ds.Dataset, out: Path) -> Path:
        """The report's path. Pictures that are there are kept: the same call again goes on where one was cut.

        Raises UserError for examples that are not in the index, and for items that are no craters.
        """
        o = self.options
        if not (o.like or o.classes):
            raise UserError("name an example in [consume.analogues] like = […], or ask for classes = 12")
        with exclusive(out):
            everything = entries(index)
            crs = sphere(everything, o.body)
            console = Console(stderr=True)
            console.print(f"forms of {len(everything):,} craters", highlight=False)
            form = kept_forms(index, everything, o.axes, out)
            lines = ["# Analogues", ""]
            found: dict[str, pd.DataFrame] = {}
            if o.like:
                like, unlike = (rows_of(names, everything) for names in (o.like, o.unlike))
                table, rows = ranking(everything, form, like, unlike, radius_km(crs), o)
                found["analogues"] = table
                gallery(index, tiles(everything, like, unlike, rows, table), out / "analogues.png")
                lines += [
                    f"- like {', '.join(o.like)}" + (f"; unlike {', '.join(o.unlike)}" if o.unlike else "")
                ]
                lines += [
                    f"- {len(rows)} of {len(everything):,} craters",
                    "",
                    "![analogues](analogues.png)",
                    "",
                ]
            if o.classes:
                sorted_ = classes(form, o.classes, o.seed)
                found["classes"] = class_table(everything, sorted_)
                lines += _classes(index, everything, form, sorted_, out, console)
            write_tables(out, "analogues", found, crs)
            text = "\n".join(lines)
            write_whole(out / "report.md", text.encode())
            return out / "report.md"


def kept_forms(index: Index, everything: Entries, axes: int, out: Path) -> NDArray[np.float32]:
    """The forms of these views, computed once."""
    made_of = key(list(index.ids), index.items(["stamp"])["stamp"].to_pylist(), axes)
    path = out / f"forms-{made_of}.npy"
    if not path.exists():
        with whole_file(path) as own:
            np.save(own, forms(index, everything, axes))
    return np.asarray(np.load(path), np.float32)


def rows_of(names: Sequence[str], everything: Entries) -> list[int]:
    """Rows of entries by the catalogue's id or the index's. Raises UserError, naming the closest there is."""
    known = {name: row for row, name in enumerate(everything.names)}
    known |= {id: row for row, id in enumerate(everything.ids)}
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, 1)
            raise UserError(
                f"no crater of the index is called {name!r}"
                + (f"; did you mean {close[0]!r}?" if close else "")
            )
    return [known[name] for name in names]


def ranking(
    everything: Entries,
    form: NDArray[np.float32],
    like: Sequence[int],
    unlike: Sequence[int],
    radius: float,
    options: AnaloguesOptions,
) -> tuple[pd.DataFrame, list[int]]:
    """The table of analogues and their rows, best first; nothing within `apart` diameters of an example."""
    p = everything.places
    logs = np.log(p.diameter)
    score = likeness(form, logs, like, unlike, options.size_penalty)
    places = unit(p)
    score[same_place(places, p.diameter, [*like, *unlike], radius, options.min_separation)] = -np.inf
    if options.max_diameter_ratio is not None:
        away = np.abs(logs[:, None] - logs[list(like)][None]).min(1)
        score[away > np.log(options.max_diameter_ratio)] = -np.inf
    rows: list[int] = []
    left = score.copy()
    for row in picked(form, score, 4 * options.top, options.diversity):  # doubles of one place give way
        if np.isfinite(left[row]) and len(rows) < options.top:
            rows.append(row)
            left[same_place(places, p.diameter, [row], radius, options.min_separation)] = -np.inf
    table = pd.DataFrame(
        {
            "rank": np.arange(1, len(rows) + 1),
            "id": [everything.names[row] for row in rows],
            "lat": p.lat[rows],
            "lon": p.lon[rows],
            "diameter_km": p.diameter[rows],
            "score": np.round(score[rows], 4),
        }
    )
    return table, rows


def same_place(
    places: NDArray[np.float64],
    diameter: NDArray[np.float64],
    rows: Sequence[int],
    radius: float,
    apart: float,
) -> NDArray[np.bool_]:
    """(N,) whether a crater lies within `apart` diameters, of the larger of the two, of one of `rows`."""
    near = np.zeros(len(places), bool)
    for row in rows:
        kilometres = radius * np.arccos(np.clip(places @ places[row], -1, 1))
        near |= kilometres <= apart * np.maximum(diameter, diameter[row])
    near[list(rows)] = True
    return near


def tiles(
    everything: Entries, like: Sequence[int], unlike: Sequence[int], rows: Sequence[int], table: pd.DataFrame
) -> list[Tile]:
    d = everything.places.diameter
    made = [
        Tile(everything.views[row][0], f"like {everything.names[row]}, {d[row]:.1f} km", "like")
        for row in like
    ]
    made += [
        Tile(everything.views[row][0], f"unlike {everything.names[row]}, {d[row]:.1f} km", "unlike")
        for row in unlike
    ]
    for row, rank, score in zip(rows, table["rank"], table["score"], strict=True):
        made.append(
            Tile(everything.views[row][0], f"{rank}. {everything.names[row]}, {d[row]:.1f} km, {score:.2f}")
        )
    return made


def class_table(everything: Entries, found: Classes) -> pd.DataFrame:
    p = everything.places
    return pd.DataFrame(
        {
            "id": list(everything.names),
            "class": found.of + 1,
            "lat": p.lat,
            "lon": p.lon,
            "diameter_km": p.diameter,
            "typical": np.round(found.typical, 4),
        }
    )


def _classes(
    index: Index, everything: Entries, form: NDArray[np.float32], found: Classes, out: Path, console: Console
) -> list[str]:
    """Lines of the report; writes classes.png, the map, and a sheet of each class."""
    (out / "classes").mkdir(exist_ok=True)
    p = everything.places
    class_map(p.lat, p.lon, found.of, out / "classes" / "map.png")
    lines = ["## Classes of form", "", "![where they are](classes/map.png)", ""]
    lines += ["| class | craters | diameter, median km | typical |", "| ---: | ---: | ---: | --- |"]
    sheets = []
    made_of = key(list(index.ids), index.items(["stamp"])["stamp"].to_pylist(), found.of.tolist())
    for number in range(found.count):
        rows = np.flatnonzero(found.of == number)
        score = np.full(len(form), -np.inf)
        score[rows] = found.typical[rows]
        shown = picked(form, score, 12, 0.3)
        name = f"{number + 1:02d}-{made_of}.png"
        if not (out / "classes" / name).exists():
            some = [
                Tile(everything.views[row][0], f"{everything.names[row]}, {p.diameter[row]:.1f} km")
                for row in shown
            ]
            gallery(index, some, out / "classes" / name)
        console.print(f"class {number + 1} of {found.count}: {len(rows):,} craters", highlight=False)
        typical = ", ".join(everything.names[row] for row in shown[:3])
        lines.append(f"| {number + 1} | {len(rows):,} | {np.median(p.diameter[rows]):.1f} | {typical} |")
        sheets.append(f"### Class {number + 1}\n\n![class {number + 1}](classes/{name})\n")
    return [*lines, "", *sheets]
