"""Rows of files that stay on object storage, read by byte ranges.

A range is not checked against the sum of its file; its length is, and `verify` checks the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from crater_ray.index.store import Copy, Store

GAP = 16 << 10  # bytes not wanted are read too, where leaving them out would cost one more request
DENSE = 2  # a file of whose rows one in so many is wanted is copied whole, and checked
_AT_ONCE = 32  # requests: nothing but waiting for answers

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one file."""

    copy: Copy
    start: int  # the byte where row 0 begins
    size: int  # bytes a row
    rows: Array  # (n,) int64, in any order, repeats allowed

    def runs(self) -> list[Array]:
        """Ascending rows, apart by more than GAP."""
        ascending = np.unique(self.rows)
        cuts = np.flatnonzero((np.diff(ascending) - 1) * self.size > GAP) + 1
        edges = [0, *cuts.tolist(), len(ascending)]
        return [ascending[a:b] for a, b in pairwise(edges) if b > a]


def read_rows(store: Store, wanted: Sequence[Rows]) -> list[Array]:
    """Of each its rows (n, size) uint8, in their order; the requests of all at once.

    Raises DamagedIndex for a file that is missing or not as long as it was.
    """
    runs = [(one, run) for one in wanted for run in one.runs()]

    def read(asked: tuple[Rows, Array]) -> Array:
        one, run = asked
        first, stop = int(run[0]), int(run[-1]) + 1
        data = store.read(one.copy, one.start + first * one.size, one.start + stop * one.size)
        block: Array = np.frombuffer(data, np.uint8).reshape(-1, one.size)[run - first]
        return block

    with ThreadPoolExecutor(max(1, min(_AT_ONCE, len(runs)))) as threads:
        blocks = list(threads.map(read, runs))
    found = []
    for one in wanted:
        own = [block for block, (owner, _) in zip(blocks, runs, strict=True) if owner is one]
        together = np.concatenate(own) if own else np.empty((0, one.size), np.uint8)
        found.append(together[np.searchsorted(np.unique(one.rows), one.rows)])
    return found
