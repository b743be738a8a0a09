"""Late interaction over arrays: exact (every row) or rerank (a shortlist), and the order of the scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crater_ray.search.codecs import Bytes, Codec, Floats
from crater_ray.search.codecs import codec as named_codec
from crater_ray.search.kernel import Queries, score

Rows = NDArray[np.int64]
Gather = Callable[[Rows], tuple[Bytes, Floats]]  # rows -> codes (n, record_bytes), scales (n, s)
BLOCK_BYTES = 64 << 20  # of codes gathered at a time: a usual shortlist at once, a long one within bounds
NOWHERE = np.float32(-np.inf)  # the score of a row that is not there


def exact(
    queries: Queries,
    blocks: Iterable[tuple[int, Bytes, Floats]],
    *,
    codec: str | Codec,
    k: int,
    dim: int,
    rows: int,
    scoring: str = "maxsim",
) -> Floats:
    """Scores (B, rows) float32 of B queries (B, Q, D) against every row; -inf where no block has the row.

    A block is (its first row, codes, scales). Raises ValueError for a block beyond `rows`, and as `score`.
    """
    out = np.full((len(queries), rows), NOWHERE, np.float32)
    for first, codes, scales in blocks:
        last = first + len(codes)
        if first < 0 or last > rows:
            raise ValueError(f"a block holds rows {first} to {last - 1}, but there are rows 0 to {rows - 1}")
        out[:, first:last] = score(queries, codes, scales, codec=codec, k=k, dim=dim, scoring=scoring)
    return out


def rerank(
    queries: Queries,
    rows: Rows,
    gather: Gather,
    *,
    codec: str | Codec,
    k: int,
    dim: int,
    scoring: str = "maxsim",
) -> Floats:
    """Scores (B, S) float32 of each query (B, Q, D) against its own rows (B, S); -inf where the row is -1.

    `gather(rows)` gives the codes and scales of those rows, in that order; it is asked for 64 MiB at a
    time. Raises ValueError when queries and rows do not pair, and as `score` does.
    """
    if rows.ndim != 2 or len(rows) != len(queries):
        raise ValueError(
            f"rows are {rows.shape} for {len(queries)} queries; (queries, candidates) is asked for"
        )
    out = np.full(rows.shape, NOWHERE, np.float32)
    step = max(1, BLOCK_BYTES // max(1, named_codec(codec).record_bytes(k, dim)))
    for number, candidates in enumerate(rows):
        there = np.flatnonzero(candidates >= 0)
        for start in range(0, len(there), step):
            places = there[start : start + step]
            codes, scales = gather(candidates[places])
            query = queries[number : number + 1]
            out[number, places] = score(query, codes, scales, codec=codec, k=k, dim=dim, scoring=scoring)[0]
    return out


def ranked(scores: NDArray[np.floating[Any]], ids: Sequence[str] | NDArray[Any], top: int) -> Rows:
    """Places of the `top` best scores (N,), best first, ties by id ascending; a score of -inf is no answer.

    `ids` may be anything that sorts as the ids do: their ranks are quicker to compare than strings.
    Raises ValueError for a NaN, or when scores and ids differ in length.
    """
    if scores.ndim != 1 or len(scores) != len(ids):
        raise ValueError(f"scores are {scores.shape} for {len(ids)} ids; one score an id is asked for")
    if np.isnan(scores).any():
        broken = ids[int(np.flatnonzero(np.isnan(scores))[0])]
        raise ValueError(f"the score of {broken!r} is NaN and has no rank")
    if top < 1:
        return np.empty(0, np.int64)
    if top < len(scores):  # everything tied with the last of the best stays in, for the ids to decide
        boundary = np.partition(scores, len(scores) - top)[len(scores) - top]
        chosen = np.flatnonzero((scores >= boundary) & (scores > NOWHERE))
    else:
        chosen = np.flatnonzero(scores > NOWHERE)
    chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
    values = scores[chosen]
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])[: len(values)]
    ends = np.r_[starts[1:], len(values)][: len(starts)]
    tied = (ends - starts > 1) & (starts < top)
    for start, end in zip(starts[tied], ends[tied], strict=True):
        chosen[start:end] = sorted(chosen[start:end].tolist(), key=ids.__getitem__)
    return chosen[:top].astype(np.int64)
