"""Consumer `dedup`: entries of an index -> pairs -> scores -> probabilities -> a merged catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crater_ray.errors import UserError
from crater_ray.files import whole_file, write_whole
from crater_ray.plugins import Index
from crater_ray_catalogue import DedupOptions, figure
from crater_ray_catalogue.decide import SURE, Decided, decide, left_table, pair_table
from crater_ray_catalogue.entries import Entries, entries, sphere
from crater_ray_catalogue.proposals import Places, propose
from crater_ray_catalogue.scores import scores
from crater_ray_catalogue.stage import exclusive
from crater_ray_catalogue.tables import write_tables
from crater_ray_mosaic.bodies import radius_km
from crater_ray_mosaic.catalogue import read_table

if TYPE_CHECKING:
    import pyarrow.dataset as ds

KNOWN = ("first", "second", "same")


class Dedup:
    """out/merged.gpkg, a CSV for each of its layers, report.md and report.png. Options: see the README."""

    def __init__(self, **options: Any) -> None:
        self.options = DedupOptions(**options)

    def __call__(self, index: Index, neighbours: ds.Dataset, out: Path) -> Path:
        """The report's path. Scores are kept: the same call again goes on where one was cut.

        Raises UserError for an index whose items are no craters, an unknown body, and a table of known pairs
        that does not fit.
        """
        o = self.options
        with exclusive(out):
            everything = entries(index)
            crs = sphere(everything, o.body)
            first, second = sides(everything)
            known = read_labelled_pairs(o.labelled_pairs, first, second or first) if o.labelled_pairs else {}
            pairs = propose(
                first.places,
                second.places if second else None,
                radius_km(crs),
                o.max_separation,
                o.max_diameter_ratio,
            )
            if not len(pairs.first):
                raise UserError(
                    f"no two of the {len(everything)} entries lie within {o.max_separation:g} diameters with "
                    f"diameters within a factor of {o.max_diameter_ratio:g}; are both catalogues of one "
                    "region, and `max_separation` wide enough?"
                )
            score = None
            if o.views:
                score = scores(index, neighbours, first, second or first, pairs, out / "scores")
            decided = decide(
                len(first),
                len(second) if second else None,
                pairs,
                score,
                reach=o.max_separation,
                ratio=o.max_diameter_ratio,
                certain=o.min_probability,
                known=known,
            )
            found = tables(decided, first, second)
            write_tables(out, "merged", found, crs)
            with whole_file(out / "report.png") as own:
                figure.draw(decided, o.max_separation, own)
            text = report(decided, found, first, second, o)
            write_whole(out / "report.md", text.encode())
            return out / "report.md"


def sides(everything: Entries) -> tuple[Entries, Entries | None]:
    """The two catalogues of an index; or its one, and None."""
    names = sorted(set(everything.catalogue))
    if len(names) > 2:
        raise UserError(f"the index holds {len(names)} catalogues ({', '.join(names)}); merge two at a time")
    if len(names) < 2:
        return everything, None
    one, two = (np.array([name == side for name in everything.catalogue], bool) for side in names)
    return part(everything, one), part(everything, two)


def part(all_of: Entries, keep: Any) -> Entries:
    """The entries of a mask, in the same order."""
    rows = np.flatnonzero(keep).tolist()
    p = all_of.places
    return Entries(
        [all_of.ids[row] for row in rows],
        [all_of.names[row] for row in rows],
        [all_of.catalogue[row] for row in rows],
        Places(p.lat[keep], p.lon[keep], p.diameter[keep]),
        [all_of.views[row] for row in rows],
        all_of.body,
    )


def read_labelled_pairs(path: Path, first: Entries, second: Entries) -> dict[tuple[int, int], bool]:
    """What a CSV first,second,same says of pairs. Raises UserError for a file or a row that does not fit."""
    rows: dict[tuple[int, int], bool] = {}
    ones, twos = ({name: row for row, name in enumerate(some.names)} for some in (first, second))
    table = read_table(path, KNOWN, what="table of known pairs", hint="it needs first,second,same")
    for number, (one, two, text) in enumerate(zip(*map(table.text, KNOWN), strict=True), 2):
        same = {"1": True, "true": True, "0": False, "false": False}.get(text.lower())
        if one not in ones or two not in twos or same is None:
            raise UserError(
                f"{path.name}:{number}: {one!r}, {two!r}, {text!r} is no id of the first catalogue, one of "
                "the second, and 1 or 0"
            )
        pair = ones[one], twos[two]
        rows[(min(pair), max(pair)) if second is first else pair] = same
    return rows


def tables(decided: Decided, first: Entries, second: Entries | None) -> dict[str, pd.DataFrame]:
    """merged, one_to_one, one_to_many, only_in_first and only_in_second (without it for one catalogue)."""
    other = second or first
    pairs = decided.pairs
    one = pair_table(decided, np.flatnonzero(decided.same), first, other)
    many = pair_table(decided, np.flatnonzero(decided.spare), first, other)
    if second is None:
        left = {"only_once": left_table(decided, first, [pairs.first, pairs.second])}
    else:
        left = {
            "only_in_first": left_table(decided, first, [pairs.first]),
            "only_in_second": left_table(decided, second, [pairs.second]),
        }
    pieces = [one.assign(status="one_to_one"), many.assign(status="one_to_many")]
    for name, table in left.items():
        column = "second_id" if name == "only_in_second" else "first_id"
        pieces.append(table.rename(columns={"id": column}).assign(status=name))
    pieces = [piece for piece in pieces if len(piece)]
    columns = ["first_id", "second_id", "status", "lat", "lon", "diameter_km", "probability", "reason"]
    merged = pd.concat([piece.reindex(columns=columns) for piece in pieces], ignore_index=True)
    merged = merged.astype({"first_id": "object", "second_id": "object"})
    return {"merged": merged, "one_to_one": one, "one_to_many": many, **left}


def report(
    decided: Decided,
    found: Mapping[str, pd.DataFrame],
    first: Entries,
    second: Entries | None,
    options: DedupOptions,
) -> str:
    """Markdown: how many of what, how sure, and how the catalogues differ."""
    pairs, linkage = decided.pairs, decided.linkage
    one = decided.same
    sure = linkage.probability[one]
    lines = ["# Merged catalogue" if second else "# Doubles of one catalogue", ""]
    lines += [f"- entries: {len(first):,}" + (f" and {len(second):,}" if second else "")]
    lines += [
        f"- pairs within {options.max_separation:g} diameters and a factor of "
        f"{options.max_diameter_ratio:g}: {len(pairs.first):,}"
    ]
    lines += [f"- {name.replace('_', ' ')}: {len(table):,}" for name, table in found.items()]
    if one.any():
        apart = np.percentile(pairs.distance[one], [50, 90])
        ratio = np.exp(np.percentile(np.abs(pairs.ratio[one]), [50, 90]))
        lines += [
            f"- expected errors among one to one: {float((1 - sure).sum()):.1f} of {int(one.sum()):,}",
            f"- their centres: {apart[0]:.3f} D apart in the median, 90 % within {apart[1]:.3f} D",
            f"- their diameters: 1 : {ratio[0]:.3f} in the median, 90 % within 1 : {ratio[1]:.3f}",
        ]
    lines += [f"- decided by {'geometry and views' if decided.by_views else 'geometry alone'}"]
    if decided.agreement is not None:
        told = f"views agree with it by {decided.agreement:.1f} standard deviations of {SURE:g} asked"
        lines[-1] += f": {told}"
    lines += ["", "![what was learnt](report.png)", ""]
    lines += ["Open merged.gpkg in QGIS: a layer each of merged, " + ", ".join(list(found)[1:]) + "."]
    return "\n".join(lines) + "\n"
