"""A row mask as FAISS search parameters: each kind of index takes its own and refuses others."""

from __future__ import annotations

from typing import Any

import faiss as _faiss
import numpy as np
from numpy.typing import NDArray

faiss: Any = _faiss  # its stubs know less than what it wraps at run time


def parameters(index: Any, mask: NDArray[np.bool_]) -> Any:
    """Search parameters that leave out the vectors where mask (ntotal,) is false."""
    bits = np.packbits(mask, bitorder="little")
    return _parameters(faiss.downcast_index(index), faiss.IDSelectorBitmap(bits))


def _parameters(index: Any, selector: Any) -> Any:
    if isinstance(index, faiss.IndexPreTransform):
        inner = _parameters(faiss.downcast_index(index.index), selector)
        return faiss.SearchParametersPreTransform(index_params=inner)
    if isinstance(index, faiss.IndexRefine):
        inner = _parameters(faiss.downcast_index(index.base_index), selector)
        return faiss.IndexRefineSearchParameters(k_factor=index.k_factor, base_index_params=inner)
    if isinstance(index, faiss.IndexIVF):
        return faiss.SearchParametersIVF(sel=selector, nprobe=index.nprobe)
    if isinstance(index, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(sel=selector, efSearch=index.hnsw.efSearch)
    return faiss.SearchParameters(sel=selector)
