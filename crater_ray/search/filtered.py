"""The shortlist among the rows that pass a filter: as many as there are, and those of an exhaustive search.

FAISS itself takes a mask, but offers neither that promise nor the lists of an IVF index.

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
from functools import cached_property
from typing import Any, Final

import faiss as _faiss
import numpy as np
from numpy.typing import NDArray

faiss: Any = _faiss  # its stubs know less than what it wraps at run time
Floats = NDArray[np.float32]
Places = NDArray[np.int64]
Mask = NDArray[np.bool_]
READABLE = ("IndexIVFFlat", "IndexIVFScalarQuantizer")  # a code a vector, one after the other

DECODED: Final = (
    60  # ns that a row costs that is compared alone, and one a dimension more: measured, one core
)
ASKED: Final = 8  # ns that a row of a list costs which is asked whether it passes
CALLED: Final = 300_000  # ns that choosing lists costs
MARGIN: Final = 4  # passing rows compared for each that is asked for, at least
FIRST: Final = 100  # best rows that looking further must not change: what nprobe is measured by
FARTHER: Final = 4  # times as many rows are compared, where the filter bites, until that brings nothing new
BITES: Final = 0.4  # of the rows nearest to a query pass: with fewer, what nprobe was measured by says little

Read = Callable[[], "Lists | None"]


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


def selector(mask: NDArray[np.bool_] | None) -> Any:
    """Leaves out the vectors where mask (ntotal,) is false; None: none."""
    return None if mask is None else faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))


def parameters(index: Any, mask: NDArray[np.bool_] | None, effort: int | None = None) -> Any:
    """Search parameters that leave out the vectors where mask (ntotal,) is false.

    `effort`: in place of the index's own nprobe, or efSearch of a graph.
    """
    return _parameters(faiss.downcast_index(index), selector(mask), effort)


def _parameters(index: Any, chosen: Any, effort: int | None) -> Any:
    if isinstance(index, faiss.IndexPreTransform):
        inner = _parameters(faiss.downcast_index(index.index), chosen, effort)
        return faiss.SearchParametersPreTransform(index_params=inner)
    if isinstance(index, faiss.IndexRefine):
        inner = _parameters(faiss.downcast_index(index.base_index), chosen, effort)
        return faiss.IndexRefineSearchParameters(k_factor=index.k_factor, base_index_params=inner)
    if isinstance(index, faiss.IndexIVF):
        return faiss.SearchParametersIVF(sel=chosen, nprobe=effort or index.nprobe)
    if isinstance(index, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(sel=chosen, efSearch=effort or index.hnsw.efSearch)
    return faiss.SearchParameters(sel=chosen)


def efforts(index: Any, wanted: int) -> tuple[int, int] | None:
    """How far a search for `wanted` rows looks, and how far it can: lists of an IVF index, steps in a graph.

    None of an index that compares every row.
    """
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        return efforts(index.index, wanted)
    if isinstance(index, faiss.IndexRefine):
        return efforts(index.base_index, wanted)
    if isinstance(index, faiss.IndexIVF):
        return int(index.nprobe), int(index.nlist)
    if isinstance(index, faiss.IndexHNSW):
        return max(int(index.hnsw.efSearch), wanted), int(index.ntotal)
    return None


class Lists:
    """An IVF index of a kind that keeps one code a vector. Made by `lists_of`, of an index that is filled."""

    def __init__(self, ivf: Any) -> None:
        self.ivf, self.count = ivf, int(ivf.nlist)
        kept = faiss.downcast_InvertedLists(ivf.invlists)
        self.sizes = np.array([kept.list_size(number) for number in range(self.count)], np.int64)
        self.list_of = np.empty(ivf.ntotal, np.int32)  # (N,) the list of each row
        self._offset = np.empty(ivf.ntotal, np.int32)  # (N,) its place there
        for number, size in enumerate(self.sizes.tolist()):
            if size:
                rows = faiss.rev_swig_ptr(kept.get_ids(number), size)
                self.list_of[rows], self._offset[rows] = number, np.arange(size)

    @cached_property
    def _codes(self) -> tuple[NDArray[np.uint8], Places]:
        """Bytes that hold every code, and where each list begins; the file's own where it is mapped."""
        kept, size = faiss.downcast_InvertedLists(self.ivf.invlists), int(self.ivf.code_size)
        if isinstance(kept, faiss.OnDiskInvertedLists):
            starts = [kept.lists.at(number).offset for number in range(self.count)]
            return faiss.rev_swig_ptr(kept.ptr, kept.totsize), np.array(starts, np.int64)
        codes = [
            faiss.rev_swig_ptr(kept.get_codes(number), count * size)
            for number, count in enumerate(self.sizes.tolist())
            if count
        ]
        return np.concatenate(codes), np.cumsum(np.r_[0, self.sizes[:-1]]) * size

    @cached_property
    def _centroids(self) -> Floats:
        """(lists, G)"""
        found: Floats = self.ivf.quantizer.reconstruct_n(0, self.count)
        return found

    def passing(self, mask: Mask | None) -> Places:
        """(lists,) rows of each list that a mask (N,) lets pass; None: all."""
        if mask is None:
            return self.sizes
        rows = np.flatnonzero(mask)
        if 2 * len(rows) <= len(mask):
            return np.bincount(self.list_of[rows], minlength=self.count)
        return self.sizes - np.bincount(self.list_of[np.flatnonzero(~mask)], minlength=self.count)

    def decoded(self, rows: Places) -> Floats:
        """(n, G) what the lists keep of those rows."""
        every, starts = self._codes
        size, ahead = int(self.ivf.code_size), int(self.ivf.coarse_code_size())
        windows = np.lib.stride_tricks.as_strided(every, (len(every) - size + 1, size), (1, 1))
        lists = self.list_of[rows].astype(np.int64)
        coded = np.empty((len(rows), ahead + size), np.uint8)
        for byte in range(ahead):  # the list's number stands before the code, its lowest byte first
            coded[:, byte] = lists >> (8 * byte) & 255
        coded[:, ahead:] = windows[starts[lists] + self._offset[rows].astype(np.int64) * size]
        found: Floats = self.ivf.sa_decode(coded)
        return found

    def order(self, queries: Floats) -> tuple[Places, Floats]:
        """(B, lists) their numbers, the nearest of each query (B, G) first, and the inner products."""
        near = queries @ self._centroids.T
        order = np.argsort(-near, axis=1)
        return order, near[np.arange(len(near))[:, None], order]

    def search(
        self, queries: Floats, wanted: int, lists: Places, near: Floats, mask: Mask | None
    ) -> tuple[Floats, Places]:
        """The `wanted` best rows in each query's own lists (B, A; -1: none): scores, rows (-1: none)."""
        count, looked = lists.shape
        scores, rows = np.empty((count, wanted), np.float32), np.empty((count, wanted), np.int64)
        arrays = [np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(lists, np.int64)]
        arrays += [np.ascontiguousarray(near, np.float32), scores, rows]
        asked, numbers, products, scored, found = (faiss.swig_ptr(array) for array in arrays)
        how = faiss.SearchParametersIVF(nprobe=looked, sel=selector(mask))
        self.ivf.search_preassigned_c(count, asked, wanted, numbers, products, scored, found, False, how)
        return scores, rows


def lists_of(index: Any) -> Lists | None:
    """The lists of an IVF index, behind transforms or not; None of another, or of codes packed together."""
    inner = inside(index)
    readable = tuple(getattr(faiss, name) for name in READABLE)
    plain = type(inner) in readable and inner.ntotal > 0
    return Lists(inner) if plain and not inner.parallel_mode else None


def inside(index: Any) -> Any:
    """What searches, behind the transforms of an index."""
    index = faiss.downcast_index(index)
    return inside(index.index) if isinstance(index, faiss.IndexPreTransform) else index


def transformed(index: Any, queries: Floats) -> Floats:
    """(B, G') queries as `inside(index)` takes them."""
    index = faiss.downcast_index(index)
    if not isinstance(index, faiss.IndexPreTransform):
        return queries
    for number in range(index.chain.size()):
        queries = faiss.downcast_VectorTransform(index.chain.at(number)).apply(queries)
    return transformed(index.index, queries)
