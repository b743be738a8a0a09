"""Image pairs for COLMAP and hloc, from the neighbour table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from crater_ray.errors import UserError
from crater_ray.files import whole_file
from crater_ray.pairs import nearest_pairs
from crater_ray.plugins import Index

if TYPE_CHECKING:
    import pyarrow.dataset as ds

NAME = "pairs.txt"
ADVICE = "rename the image, or give it another id in a manifest"


class Pairs:
    """Consumer `pairs`: each image with its `top` neighbours, a "first second" line each, sorted."""

    def __init__(self, top: int = 10) -> None:
        self.top = top

    def __call__(self, index: Index, neighbours: ds.Dataset, out: Path) -> Path:
        """out/pairs.txt, written whole or not at all; each pair once, no image with itself.

        Raises UserError for a table of fewer than `top` neighbours, and for an id that a reader of such files
        would not give back: they split lines at white space and pass over those that begin with '#'.
        """
        pairs = nearest_pairs(neighbours, self.top, len(index), "pairs")
        for column in pairs.columns:
            _check(column.unique().to_pylist())
        path = out / NAME
        with whole_file(path) as own, own.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(_lines(pairs))
        return path


def _check(ids: Iterable[str]) -> None:
    for id in ids:
        if id.split() != [id]:  # str.split knows the white space of Unicode, as the readers in Python do
            raise UserError(f"id {id!r} has white space, where COLMAP and hloc split a pair; {ADVICE}")


def _lines(pairs: pa.Table) -> Iterator[str]:
    for batch in pairs.to_batches():
        for first, second in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if first.startswith("#"):  # a comment for COLMAP; a pair has no order
                first, second = second, first
            if first.startswith("#"):
                raise UserError(
                    f"ids {second!r} and {first!r} both begin with '#', so that COLMAP takes their line for "
                    f"a comment; {ADVICE}"
                )
            yield f"{first} {second}\n"
