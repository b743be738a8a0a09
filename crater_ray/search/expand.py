"""Query expansion: a query joined by its first hits is asked again, and finds what looks like them too.

A hit that joined would match itself. So it is scored by what the query and the *other* hits are together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crater_ray.search.codecs import Floats

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Joined:
    """E hits that join a query."""

    rows: Array  # (E,) int64, in the index that is asked; -1: in another
    vectors: Array  # (E, m, G), as the index keeps them
    tokens: Array  # (E, K, D), decoded

    def __len__(self) -> int:
        return len(self.rows)

    def own(self) -> list[int]:
        """Which of the hits are in the index that is asked."""
        return [int(place) for place in np.flatnonzero(self.rows >= 0)]


def joined(query: Array, hits: Sequence[Array] | Array, without: int | None = None) -> Floats:
    """(Q + K + …, D) float32: the rows of a query (Q, D), then those of its first hits (K, D), one left out.

    As queries such rows score what maxsim makes of them all: the mean over the query's and the hits' tokens.
    """
    others = [rows for place, rows in enumerate(hits) if place != without]
    return np.concatenate([np.asarray(rows, np.float32) for rows in (query, *others)])
