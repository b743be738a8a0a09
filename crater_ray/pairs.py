"""Pairs of images out of a neighbour table, for what compares images pair by pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from crater_ray.errors import UserError

if TYPE_CHECKING:
    import pyarrow.dataset as ds


def nearest_pairs(neighbours: ds.Dataset, top: int, images: int, consumer: str) -> pa.Table:
    """(first, second) strings: each image with its `top` neighbours; sorted, unique, first < second.

    images: of the index. consumer: the name of the job's table, for the message.
    Raises UserError where the table holds fewer neighbours an image than were asked for.
    """
    deepest = pc.max(neighbours.to_table(columns=["rank"])["rank"]).as_py() or 0
    if deepest < min(top, images - 1):
        raise UserError(
            f"[consume.{consumer}] top = {top}, but the neighbour table has {deepest} an image; "
            f"set [neighbours] top = {top}, or [consume.{consumer}] top = {max(deepest, 1)}"
        )
    near = neighbours.to_table(columns=["query_id", "id"], filter=pc.field("rank") <= top)
    one, other = (near[name].cast(pa.string()) for name in ("query_id", "id"))
    pairs = pa.table({"first": pc.min_element_wise(one, other), "second": pc.max_element_wise(one, other)})
    pairs = pairs.filter(pc.not_equal(pairs["first"], pairs["second"]))
    unique = pairs.group_by(["first", "second"]).aggregate([])
    return unique.sort_by([("first", "ascending"), ("second", "ascending")])
