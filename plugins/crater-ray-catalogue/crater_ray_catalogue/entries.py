"""The entries of a catalogue out of an index: one for each group of views, in row order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyproj import CRS

from crater_ray.errors import UserError
from crater_ray.plugins import Index
from crater_ray_catalogue.proposals import Places
from crater_ray_mosaic.bodies import system
from crater_ray_mosaic.figure import compare, of_body

NEEDED = ("lat", "lon", "diameter_km")


@dataclass(frozen=True)
class Entries:
    """N entries and the ids of their views, the narrowest first."""

    ids: Sequence[str]  # as the index groups them
    names: Sequence[str]  # as the catalogue calls them
    catalogue: Sequence[str]  # "a", "b", or "" where the index has one
    places: Places
    views: Sequence[Sequence[str]]
    body: str  # empty: the index does not say

    def __len__(self) -> int:
        return len(self.ids)


def entries(index: Index) -> Entries:
    """What an index of crater views lists. Place and diameter are of an entry's narrowest view.

    Raises UserError where the reader has no column lat, lon or diameter_km, or a cell of one is empty.
    """
    table = index.items()
    missing = [name for name in NEEDED if name not in table.column_names]
    if missing:
        raise UserError(
            f"the index's reader has no column {missing[0]!r}, so its items are no entries of a crater "
            "catalogue; index with reader mosaic or catalogues"
        )
    for name in NEEDED:
        if pc.any(pc.is_null(table[name], nan_is_null=True)).as_py():
            raise UserError(f"column {name!r} of the index has empty cells; give the reader a catalogue")
    groups = np.asarray(table["group"].to_pylist(), object)
    width = (
        table["half_width_km"].to_numpy() if "half_width_km" in table.column_names else np.zeros(len(table))
    )
    order = np.lexsort((width, groups.astype(str)))
    starts = np.flatnonzero(np.r_[True, groups[order][1:] != groups[order][:-1]]) if len(order) else order
    firsts = order[starts]
    ids = table["id"].to_pylist()
    stops = [*starts[1:].tolist(), len(order)]
    views = [
        [ids[row] for row in order[start:stop]] for start, stop in zip(starts.tolist(), stops, strict=True)
    ]

    def column(name: str, other: Sequence[str]) -> list[str]:
        if name not in table.column_names:
            return list(other)
        return [value or "" for value in table[name].take(pa.array(firsts)).to_pylist()]

    named = [str(group) for group in groups[firsts]]
    lat, lon, diameter = (np.asarray(table[name].to_numpy(), np.float64)[firsts] for name in NEEDED)
    if (diameter <= 0).any():
        raise UserError(f"{int((diameter <= 0).sum())} entries have a diameter_km that is not above 0")
    bodies = sorted({*column("body", [""] * len(firsts))} - {""})
    if len(bodies) > 1:
        raise UserError(f"the index holds several bodies ({', '.join(bodies)}); index one a catalogue")
    return Entries(
        named,
        column("crater", named),
        column("catalogue", [""] * len(firsts)),
        Places(lat, lon, diameter),
        views,
        bodies[0] if bodies else "",
    )


def sphere(everything: Entries, body: str | None) -> CRS:
    """Coordinates of the body that the index or option body name.

    Raises UserError where neither does or PROJ has no such body, ReaderError where they name two.
    """
    if not (body or everything.body):
        raise UserError(
            "the index does not say which body its craters are on; give the consumer option body, as "
            'body = "mars", or the reader, and index again'
        )
    if body and everything.body:
        index = of_body(everything.body, f'the index with body = "{everything.body}"')
        compare(index, of_body(body, f'option body = "{body}"'))
    return system(body or everything.body)
