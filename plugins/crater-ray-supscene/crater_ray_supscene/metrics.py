"""Retrieval over whole test sets as SupScene and MIRorR count it; NaN for a query without positives."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]


def ranking(
    scores: NDArray[np.floating], excluded: Bools | None = None, depth: int | None = None
) -> Integers:
    """(B, depth) columns of scores (B, N), best first, ties by column; -1 in place of what is excluded.

    excluded (B, N): pairs that are no answer, such as an image to itself; they come last, as -1.
    """
    masked = np.asarray(scores, np.float64)
    if excluded is not None:
        masked = np.where(excluded, -np.inf, masked)
    order = np.argsort(-masked, axis=1, kind="stable")[:, :depth]
    if excluded is None:
        return order
    return np.where(np.take_along_axis(excluded, order, 1), -1, order)


def recall_at(order: Integers, relevant: Bools, k: int) -> Floats:
    """(B,) the share of all P positives among the first k."""
    found: Floats = _hits(order, relevant, k).sum(1) / _positives(relevant)
    return found


def hit_rate_at(order: Integers, relevant: Bools, k: int) -> Floats:
    """(B,) positives among the first k over min(P, k): 1 is the most that k answers can reach."""
    found: Floats = _hits(order, relevant, k).sum(1) / np.minimum(_positives(relevant), k)
    return found


def map_at(order: Integers, relevant: Bools, k: int, over: Literal["min(P,k)", "P"] = "min(P,k)") -> Floats:
    """(B,) average precision of the first k answers over min(P, k), the paper's tables, or over P."""
    hits = _hits(order, relevant, k)
    precision = np.cumsum(hits, 1) / np.arange(1, hits.shape[1] + 1)
    positives = _positives(relevant)
    total: Floats = (precision * hits).sum(1)
    return total / (np.minimum(positives, k) if over == "min(P,k)" else positives)


def ndcg_at(order: Integers, gains: NDArray[np.floating], k: int) -> Floats:
    """(B,) NDCG of the first k, linear gains (B, N): 0 and 1 for the binary one, overlaps for the graded."""
    found = np.where(order >= 0, np.take_along_axis(gains, np.maximum(order, 0), 1), 0.0)[:, :k]
    best = -np.sort(-np.asarray(gains, np.float64), axis=1)[:, :k]
    ideal = (best * _discounts(best.shape[1])).sum(1)
    reached: Floats = (found * _discounts(found.shape[1])).sum(1)
    return reached / np.where(ideal > 0, ideal, np.nan)


def trapezoid_ap(order: Integers, relevant: Bools, depth: int = 200) -> Floats:
    """(B,) MIRorR's AP: the area under precision over recall by trapezoids, within the first `depth`."""
    hits = _hits(order, relevant, depth)
    precision = np.cumsum(hits, 1) / np.arange(1, hits.shape[1] + 1)
    before = np.concatenate([np.ones((len(hits), 1)), precision[:, :-1]], 1)
    area: Floats = ((before + precision) / 2 * hits).sum(1)
    return area / _positives(relevant)


def summary(
    order: Integers, gains: NDArray[np.floating], positive: float, cuts: tuple[int, ...]
) -> dict[str, float]:
    """Means of everything here, by name; gains (B, N) overlaps, of which `positive` and more are relevant."""
    relevant = np.asarray(gains) >= positive
    found: dict[str, Floats] = {"mAP_trapezoid": trapezoid_ap(order, relevant)}
    found["mAP"] = map_at(order, relevant, order.shape[1], "P")
    for k in cuts:
        found |= {
            f"recall@{k}": recall_at(order, relevant, k),
            f"hits@{k}/min(P,{k})": hit_rate_at(order, relevant, k),
            f"mAP@{k} over min(P,k)": map_at(order, relevant, k),
            f"mAP@{k} over P": map_at(order, relevant, k, "P"),
            f"NDCG@{k}": ndcg_at(order, relevant.astype(np.float64), k),
            f"NDCG@{k} graded": ndcg_at(order, np.where(relevant, gains, 0.0), k),
        }
    counted = relevant.any(1)
    return {
        name: float(values[counted].mean()) if counted.any() else float("nan")
        for name, values in found.items()
    }


def _hits(order: Integers, relevant: Bools, k: int) -> Bools:
    """(B, k) whether each answer is a positive."""
    first = order[:, :k]
    return np.take_along_axis(relevant, np.maximum(first, 0), 1) & (first >= 0)


def _positives(relevant: Bools) -> Floats:
    total = relevant.sum(1).astype(np.float64)
    return np.where(total > 0, total, np.nan)


def _discounts(count: int) -> Floats:
    return 1 / np.log2(np.arange(2, count + 2))
