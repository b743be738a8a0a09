"""The shortlist among the rows that pass a filter: as many as there are, and those of an exhaustive search.

How far an index that does not compare everything looks (nprobe of IVF, efSearch of a graph) was set for all
rows. Where few pass, what it looks into holds few of them. So:

- Few rows are compared one by one, whichever list they are in: as long as that costs less than asking every
  row of a list whether it passes.
- Lists of an IVF index are looked into, the nearest first, until as many passing rows were compared as a
  query without a filter compares, or MARGIN times as many as are asked for. Lists without one cost nothing.
- Where a filter took most of what is nearest to a query, the rows that pass may lie anywhere: FARTHER times
  as many are compared, and again, until that brings nothing new among the FIRST best.
- Any other kind of index looks twice as far in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from crater_ray.search.faiss_index import Floats, Lists, Mask, Places, efforts, faiss, parameters, transformed

DECODED: Final = (
    60  # ns that a row costs that is compared alone, and one a dimension more: measured, one core
)
ASKED: Final = 8  # ns that a row of a list costs which is asked whether it passes
CALLED: Final = 300_000  # ns that choosing lists costs
MARGIN: Final = 4  # passing rows compared for each that is asked for, at least
FIRST: Final = 100  # best rows that looking further must not change: what nprobe is measured by
FARTHER: Final = 4  # times as many rows are compared, where the filter bites, until that brings nothing new
BITES: Final = 0.4  # of the rows nearest to a query pass: with fewer, what nprobe was measured by says little

Read = Callable[[], Lists | None]


def search(
    index: Any,
    read: Read,
    queries: Floats,
    wanted: int,
    mask: Mask | None,
    deepest: int,
    widen: bool = True,
) -> tuple[Floats, Places]:
    """Scores (B, wanted), best first, and rows or -1 of queries (B, G) among the rows where mask is true.

    `read` gives the lists of the index, where it has some that can be read. A query for more than `deepest`
    rows makes nprobe grow. Without `widen` a search of all rows keeps to the index's own nprobe even where
    fewer are found: what is measured is what was set.
    """
    total = int(index.ntotal)
    passing = total if mask is None else int(np.count_nonzero(mask))
    wanted = min(wanted, total)
    if passing == 0 or efforts(index, wanted) is None:
        return _native(index, queries, wanted, mask, None)
    if mask is None and wanted <= deepest:
        scores, rows = _native(index, queries, wanted, None, None)
        short = np.flatnonzero(rows[:, -1] < 0)
        if len(short) and widen:
            scores[short], rows[short] = _wider(index, read, queries[short], wanted, None, deepest)
        return scores, rows
    if mask is not None and passing * (DECODED + int(index.d)) <= CALLED + ASKED * total:
        return _compared(index, read(), queries, wanted, np.flatnonzero(mask))
    return _wider(index, read, queries, wanted, mask, deepest)


def _wider(
    index: Any, read: Read, queries: Floats, wanted: int, mask: Mask | None, deepest: int
) -> tuple[Floats, Places]:
    """As far as it takes."""
    lists = read()
    now, most = efforts(index, wanted) or (1, 1)
    if lists is not None:
        share = now / most * max(1.0, wanted / deepest)
        return _walked(lists, transformed(index, queries), wanted, mask, share, deepest)
    return _further(index, queries, wanted, mask, (now, most))


def _native(
    index: Any, queries: Floats, wanted: int, mask: Mask | None, effort: int | None
) -> tuple[Floats, Places]:
    how = None if mask is None and effort is None else parameters(index, mask, effort)
    scores, rows = index.search(queries, wanted, params=how)
    return scores, rows


def _compared(
    index: Any, lists: Lists | None, queries: Floats, wanted: int, rows: Places
) -> tuple[Floats, Places]:
    """Just those rows."""
    scores = products(index, lists, queries, rows)
    return _best(scores, np.broadcast_to(rows, scores.shape), wanted)


def products(index: Any, lists: Lists | None, queries: Floats, rows: Places) -> Floats:
    """(B, n) inner products of queries (B, G) with what the index keeps of those rows (n,)."""
    if lists is not None:
        return transformed(index, queries) @ lists.decoded(rows).T
    if (inverted := faiss.try_extract_index_ivf(index)) is not None:
        inverted.make_direct_map(True)
    found: Floats = queries @ index.reconstruct_batch(rows).T
    return found


def _walked(
    lists: Lists, queries: Floats, wanted: int, mask: Mask | None, share: float, deepest: int
) -> tuple[Floats, Places]:
    """Lists by their nearness to each query, as many as it takes."""
    passing = lists.passing(mask)
    order, near = lists.order(queries)
    held = passing[order].cumsum(1)  # (B, lists) rows compared once so many lists were looked into
    budget = max(share * lists.ivf.ntotal, MARGIN * wanted)
    ends = _lists_for(held, budget)
    scores, rows = lists.search(queries, wanted, *_between(order, near, np.zeros_like(ends), ends), mask)
    if mask is None:
        return scores, rows
    every = np.arange(len(queries))
    around = lists.sizes[order].cumsum(1)
    close = _lists_for(around, deepest) - 1
    left = every[held[every, close] < BITES * around[every, close]]
    left = left[ends[left] < order.shape[1]]
    while len(left):
        budget, begin = FARTHER * budget, ends[left]
        ends[left] = _lists_for(held[left], budget)
        looked = _between(order[left], near[left], begin, ends[left])
        more = lists.search(queries[left], wanted, *looked, mask)
        before = rows[left]
        both = np.concatenate([scores[left], more[0]], 1), np.concatenate([before, more[1]], 1)
        scores[left], rows[left] = _best(*both, wanted)
        new = (rows[left, :FIRST, None] != before[:, None, :]).all(2).any(1)
        left = left[new & (ends[left] < order.shape[1])]
    return scores, rows


def _lists_for(held: Places, budget: float) -> Places:
    """(B,) how many lists hold so many rows, each query's in its own order."""
    counts: Places = np.minimum((held < budget).sum(1) + 1, held.shape[1])
    return counts


def _between(order: Places, near: Floats, begin: Places, ends: Places) -> tuple[Places, Floats]:
    """Each query's lists from its beginning to its end, -1 after them, and their nearness."""
    at = begin[:, None] + np.arange(int((ends - begin).max()))
    inside, at = at < ends[:, None], np.minimum(at, order.shape[1] - 1)
    mine = np.arange(len(order))[:, None]
    return np.where(inside, order[mine, at], -1), near[mine, at]


def _further(
    index: Any, queries: Floats, wanted: int, mask: Mask | None, effort: tuple[int, int]
) -> tuple[Floats, Places]:
    """Twice as far, until the first stay the same and none is missing; then all rows that pass."""
    now, most = effort
    passing = int(index.ntotal) if mask is None else int(np.count_nonzero(mask))
    last = min(wanted, passing) - 1
    scores, rows = _native(index, queries, wanted, mask, now)
    left = np.arange(len(queries))
    while now < most and len(left):
        now = min(2 * now, most)
        before = rows[left]
        scores[left], rows[left] = _native(index, queries[left], wanted, mask, now)
        same = (rows[left, :FIRST] == before[:, :FIRST]).all(1)
        left = left[~same | (rows[left, last] < 0)]
    left = left[rows[left, last] < 0]
    if len(left):
        every = np.arange(int(index.ntotal)) if mask is None else np.flatnonzero(mask)
        scores[left], rows[left] = _compared(index, None, queries[left], wanted, every)
    return scores, rows


def _best(scores: Floats, rows: Places, wanted: int) -> tuple[Floats, Places]:
    """The `wanted` best of each query, best first, ties by row; -1 and -inf where there are fewer."""
    count, there = scores.shape
    mine = np.arange(count)[:, None]
    if there > wanted:
        few = np.argpartition(-scores, wanted - 1, axis=1)[:, :wanted]
        scores, rows = scores[mine, few], rows[mine, few]
    order = np.lexsort((rows, -scores), axis=1)
    best, found = np.full((count, wanted), -np.inf, np.float32), np.full((count, wanted), -1, np.int64)
    best[:, :there], found[:, :there] = scores[mine, order], rows[mine, order]
    return best, found
