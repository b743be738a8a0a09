"""Image pairs for COLMAP, from the neighbour table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from crater_ray.errors import UserError
from crater_ray.plugins import Index

if TYPE_CHECKING:
    import pyarrow.dataset as ds

NAME = "pairs.txt"


class Pairs:
    """Consumer `pairs`: each image with its `top` neighbours, a "first second" line each, sorted."""

    def __init__(self, top: int = 10) -> None:
        self.top = top

    def __call__(self, index: Index, neighbours: ds.Dataset, out: Path) -> Path:
        """out/pairs.txt, written whole or not at all; first < second, no image with itself.

        Raises UserError for an id that COLMAP, which splits lines at spaces, could not read.
        """
        near = pc.field("rank") <= self.top
        pairs = unordered(neighbours.to_table(columns=["query_id", "id"], filter=near))
        for column in pairs.columns:
            spaced = column.filter(pc.match_substring_regex(column, r"\s"))
            if len(spaced):
                raise UserError(
                    f"id {spaced[0].as_py()!r} has white space, where COLMAP splits a pair; "
                    f"rename the image, or give it another id in a manifest"
                )
        out.mkdir(parents=True, exist_ok=True)
        path, part = out / NAME, out / f".{NAME}.{os.getpid()}"
        try:
            with part.open("w", encoding="utf-8", newline="\n") as file:
                for batch in pairs.to_batches():
                    lines = pc.binary_join_element_wise(*batch.columns, " ").to_pylist()
                    file.writelines(f"{line}\n" for line in lines)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return path


def unordered(table: pa.Table) -> pa.Table:
    """(first, second) sorted and unique, first < second, of a table of query_id and id."""
    one, other = (table[name].cast(pa.string()) for name in ("query_id", "id"))
    pairs = pa.table({"first": pc.min_element_wise(one, other), "second": pc.max_element_wise(one, other)})
    pairs = pairs.filter(pc.not_equal(pairs["first"], pairs["second"]))
    unique = pairs.group_by(["first", "second"]).aggregate([])
    return unique.sort_by([("first", "ascending"), ("second", "ascending")])
