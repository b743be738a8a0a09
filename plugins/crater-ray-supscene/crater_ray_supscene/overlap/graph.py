"""Overlaps as a symmetric sparse graph (Eq. 1, SupScene)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Integers = NDArray[np.int64]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
How = Literal["max", "mean"]


@dataclass(frozen=True, slots=True)
class Edges:
    """Directed overlaps as a file lists them: rows, columns (E,) and weights (E,) in 0..1."""

    rows: Integers
    columns: Integers
    weights: Floats


class OverlapGraph:
    """O of N images: symmetric, one on its diagonal, zero where nothing is listed; and pairs not known."""

    def __init__(self, overlap: Any, unknown: Any) -> None:
        self.overlap, self.unknown = overlap, unknown  # (N, N) csr, float32 and bool, without a diagonal

    def __len__(self) -> int:
        return int(self.overlap.shape[0])

    def block(self, rows: Integers) -> Floats:
        """(n, n) overlaps of some images, which may come twice; one for an image and itself."""
        dense: Floats = np.asarray(self.overlap[rows][:, rows].todense(), np.float32)
        return np.where(rows[:, None] == rows[None], np.float32(1), dense)

    def unknown_block(self, rows: Integers) -> Bools:
        """(n, n) which pairs of some images have an overlap that nobody measured."""
        return np.asarray(self.unknown[rows][:, rows].todense(), np.bool_)

    def neighbours(self, row: int, least: float) -> Integers:
        """The images that overlap one by `least` or more."""
        start, stop = self.overlap.indptr[row : row + 2]
        found: Integers = self.overlap.indices[start:stop][self.overlap.data[start:stop] >= least]
        return found


def overlap_graph(count: int, edges: Edges, unknown: Edges | None = None, how: How = "max") -> OverlapGraph:
    """The graph of `count` images. A pair listed in both directions has their max or mean; one listed in one
    direction has that; a direction listed twice its max.

    Raises ValueError for a row that is not there or a weight outside 0..1.
    """
    if how not in ("max", "mean"):
        raise ValueError(f"symmetrise with max or mean, not {how!r}")
    for given in (edges, unknown or edges):
        ends = np.concatenate([given.rows, given.columns])
        if ends.size and not 0 <= ends.min() <= ends.max() < count:
            raise ValueError(f"edges name images {ends.min()}..{ends.max()} of {count}")
    weights = np.asarray(edges.weights, np.float64)
    if weights.size and not (weights.min() >= 0 and weights.max() <= 1):
        raise ValueError(f"overlaps {weights.min()}..{weights.max()} are not in 0..1")
    directed = _largest(count, edges.rows, edges.columns, weights)
    rows, columns, values = directed
    low, high = np.minimum(rows, columns), np.maximum(rows, columns)
    if how == "max":
        low, high, values = _largest(count, low, high, values)
    else:
        keys, place = np.unique(low * count + high, return_inverse=True)
        values = np.bincount(place, values) / np.bincount(place)
        low, high = np.divmod(keys, count)
    proper = (low != high) & (values > 0)
    overlap = _symmetric(count, low[proper], high[proper], values[proper].astype(np.float32))
    none = np.zeros(0, np.int64)
    pairs = unknown or Edges(none, none, np.zeros(0, np.float32))
    low, high = np.minimum(pairs.rows, pairs.columns), np.maximum(pairs.rows, pairs.columns)
    low, high = low[low != high], high[low != high]
    low, high, told = _largest(count, low, high, np.ones(len(low)))
    return OverlapGraph(overlap, _symmetric(count, low, high, told.astype(np.bool_)))


def _largest(
    count: int, rows: Integers, columns: Integers, weights: NDArray[np.float64]
) -> tuple[Integers, Integers, NDArray[np.float64]]:
    """Each (row, column) once, with its largest weight. (Plain assignment would keep the last.)"""
    keys, place = np.unique(rows * count + columns, return_inverse=True)
    largest = np.zeros(len(keys))
    np.maximum.at(largest, place, weights)
    found_rows, found_columns = np.divmod(keys, max(count, 1))
    return found_rows, found_columns, largest


def _symmetric(count: int, low: Integers, high: Integers, values: NDArray[Any]) -> Any:
    places = (np.concatenate([low, high]), np.concatenate([high, low]))
    return csr_array((np.concatenate([values, values]), places), shape=(count, count))
