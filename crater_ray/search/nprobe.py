"""nprobe of an IVF index: the smallest that reaches TARGET recall, measured on the index that was built.

Held-out views of the index are the queries. Recall is the share of the exact first FIRST images among the
CANDIDATES; their order does not matter, for they are reranked. The recall that was measured is kept too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crater_ray.search.shortlist import Rows, Shortlist
from crater_ray.types import CANDIDATES

TARGET: Final = 0.995
FIRST: Final = 100  # images of Flat's that are looked for: further ones trade places in a byte a dimension
QUERIES: Final = 256  # views asked, at most
SHARE: Final = 20  # a twentieth of a part's views is kept for that
LEAST: Final = 5  # views of a part that gives one

Floats = NDArray[np.floating[Any]]
Blocks = Iterable[tuple[int, Floats]]  # first row, vectors (n, m, G)


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was measured of a shortlist index."""

    nlist: int  # lists of an IVF index; 0: another kind
    nprobe: int  # lists that a query scans
    recall: float  # share of the exact first k among the candidates
    k: int
    candidates: int
    queries: int


def held_out(rows: int, seed: int) -> Rows:
    """The rows of a part that may be asked and are not learnt from, ascending; none of a very small one."""
    count = min(QUERIES, max(rows // SHARE, 1 if rows >= LEAST else 0))
    return np.sort(np.random.default_rng(seed).permutation(rows)[:count])


def nearest(queries: Floats, own: Rows, blocks: Blocks, first: int = FIRST) -> Rows:
    """(B, first) the rows whose vectors score best against each query (B, m, G), without its own row."""
    count = len(queries)
    rows, scores = np.full((count, first), -1, np.int64), np.full((count, first), -np.inf, np.float32)
    for start, vectors in blocks:
        found, values = Shortlist.build(vectors).search(queries, first + 1)
        values[(found + start == own[:, None]) | (found < 0)] = -np.inf
        rows = np.concatenate([rows, np.where(found < 0, -1, found + start)], 1)
        scores = np.concatenate([scores, values], 1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :first]
        rows, scores = np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)
    return np.where(scores > -np.inf, rows, -1)


def recall(
    shortlist: Shortlist, queries: Floats, own: Rows, truth: Rows, candidates: int = CANDIDATES
) -> float:
    """The share of `truth` (B, first; -1: none) that is among the `candidates` images of the shortlist."""
    # nprobe is measured as it is set: where it finds too few, a search looks into more lists
    found, _ = shortlist.search(queries, candidates + 1, widen=not shortlist.nlist)
    hit = wanted = 0
    for row, got, asked in zip(own, found, truth, strict=True):
        others = got[got != row][:candidates]
        asked = asked[asked >= 0]
        hit, wanted = hit + int(np.isin(asked, others).sum()), wanted + len(asked)
    return hit / wanted if wanted else 1.0


def tune(
    shortlist: Shortlist, queries: Floats, own: Rows, truth: Rows, target: float = TARGET
) -> Tuning | None:
    """Sets the smallest nprobe that reaches `target`, all lists where none does; what was measured.

    None where there is nothing to ask or to find.
    """
    if not len(queries) or not (truth >= 0).any():
        return None

    def measured(nprobe: int) -> float:
        if shortlist.nlist:
            shortlist.nprobe = nprobe
        return recall(shortlist, queries, own, truth)

    few, enough = 0, shortlist.nlist  # few: too few for certain; enough: assumed, measured at the end
    for nprobe in _doublings(shortlist.nlist):  # looking into few lists is quick, into many is not
        if measured(nprobe) >= target:
            enough = nprobe
            break
        few = nprobe
    while enough - few > max(1, enough // 32):  # as fine as a thirty-second: finer is not worth its measuring
        middle = (few + enough) // 2
        few, enough = (few, middle) if measured(middle) >= target else (middle, enough)
    reached = measured(enough)
    return Tuning(
        shortlist.nlist,
        enough,
        round(reached, 4),
        truth.shape[1],
        min(CANDIDATES, len(shortlist)),
        len(queries),
    )


def _doublings(most: int) -> Iterator[int]:
    count = 1
    while count < most:
        yield count
        count *= 2
