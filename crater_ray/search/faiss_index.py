"""What FAISS does not offer by itself: a row mask for every kind of index, and the lists of an IVF index."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import faiss as _faiss
import numpy as np
from numpy.typing import NDArray

faiss: Any = _faiss  # its stubs know less than what it wraps at run time
Floats = NDArray[np.float32]
Places = NDArray[np.int64]
Mask = NDArray[np.bool_]
READABLE = ("IndexIVFFlat", "IndexIVFScalarQuantizer")  # a code a vector, one after the other


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
