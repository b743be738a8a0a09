"""A row mask as FAISS search parameters: each kind of index takes its own and refuses others."""

from __future__ import annotations

from typing import Any

import faiss as _faiss
import numpy as np
from numpy.typing import NDArray

faiss: Any = _faiss  # its stubs know less than what it wraps at run time


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
