"""Query expansion: a query joined by its first hits is asked again, and finds what looks like them too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from crater_ray.search.records import Floats

Array = np.ndarray[Any, Any]


def joined(query: Array, hits: Sequence[Array]) -> Floats:
    """(Q + K + …, D) float32: the rows of a query (Q, D), then those of each of its first hits (K, D).

    As queries such rows score what maxsim makes of them all: the mean over the query's and the hits' tokens.
    """
    return np.concatenate([np.asarray(rows, np.float32) for rows in (query, *hits)])
