"""Sorted ids cut into parts by their content, so that a grown catalogue disturbs one part only."""

from __future__ import annotations

from collections.abc import Sequence

from xxhash import xxh64_hexdigest, xxh64_intdigest

from crater_ray.errors import ReaderError

MASK = 511  # a part ends after an id whose hash ends in these bits as zeros: 512 items on average
MOST = 4096  # and here at the latest; a run this long without such an id is one in 3,000


def cut(ids: Sequence[str], *, mask: int = MASK, most: int = MOST) -> dict[str, slice]:
    """Part name -> the slice of `ids` it holds, in order; the parts are disjoint and cover all.

    ids: sorted and unique. Where a part ends depends on the ids near it alone: one id more or less changes
    the part it falls in (or splits it, or joins two). Names are hashes of a part's first id: file-name safe.
    Raises ReaderError for an id that is not UTF-8, ValueError when ids are not sorted and unique.
    """
    parts: dict[str, slice] = {}
    start = 0
    for number, id in enumerate(ids):
        if number and ids[number - 1] >= id:
            raise ValueError(f"ids must be sorted and unique; {ids[number - 1]!r} stands before {id!r}")
        if not _hash(id) & mask or number + 1 - start == most or number + 1 == len(ids):
            parts[xxh64_hexdigest(ids[start].encode())] = slice(start, number + 1)
            start = number + 1
    return parts


def _hash(id: str) -> int:
    try:
        return xxh64_intdigest(id.encode())
    except UnicodeEncodeError:
        raise ReaderError(f"{id!r} is not valid UTF-8 and cannot be an id; rename the file") from None
