"""What a ranking is worth: image and ID-level AP, hit@K, recall@K, and bootstrap intervals. NumPy only.

B queries, N gallery images (rows), G groups (crater ids). A gallery image is *relevant* to a query when its
group is one that the query names: its own crater and those visible with it, as far as the gallery has them.

- image_ap    AP over gallery images: sum of precision at each relevant image, over all relevant images.
- id_ap       AP over crater ids: each id stands where its best image stands, among distinct ids.
- hit@K       1 when any of the top K images is relevant (often called Recall@K).
- recall@K    the share of the relevant images that is in the top K; at most K / their number.

CraterBench-R prints "R@K" without saying which of the last two it is; its own file calls the latter
recall_frac. Its columns rule out hit@K: two positives a query bound mAP from above.
A relevant image that was not retrieved counts zero. A query without a relevant image in the gallery has no
score: it is NaN here, left out of every mean, and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

CUTS = (1, 5, 10)
MEANS = {"image_ap": "image_map", "id_ap": "id_map"}  # a mean of AP is called mAP

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Summary:
    """Means over the queries that have a relevant image."""

    means: dict[str, float]  # image_map, id_map, hit@K, recall@K; NaN when no query counts
    queries: int  # that count
    excluded: int  # without a relevant image in the gallery


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the bounds that a bootstrap gives it."""

    mean: float
    low: float
    high: float


def group_codes(groups: Sequence[str]) -> tuple[Integers, dict[str, int]]:
    """(N,) the group of each gallery row as 0..G-1, and the code of each group by name."""
    names: dict[str, int] = {}
    codes = np.fromiter((names.setdefault(group, len(names)) for group in groups), np.int64, len(groups))
    return codes, names


def relevance(codes: Integers, names: Mapping[str, int], wanted: Iterable[Mapping[str, float]]) -> Bools:
    """(B, N) whether each gallery row is relevant to each query.

    codes, names: of `group_codes`; wanted: a query's groups and their gains (a gain above zero counts), or
    `item.relevant or {item.group: 1.0}`. Groups that the gallery lacks are passed over.
    """
    asked = list(wanted)
    table = np.zeros((len(asked), len(names)), np.bool_)
    for row, gains in enumerate(asked):
        table[row, [names[group] for group, gain in gains.items() if gain > 0 and group in names]] = True
    return table[:, codes]


def score_queries(
    order: npt.NDArray[Any], relevant: Bools, codes: Integers, cuts: Sequence[int] = CUTS
) -> dict[str, Floats]:
    """(B,) each of image_ap, id_ap, hit@K and recall@K, by name; NaN for a query without relevant rows.

    order: (B, depth) gallery rows, best first, -1 where there is none; depth may be less than N.
    relevant: (B, N) bool; codes: (N,) the group of each row, 0..G-1.
    Raises ValueError for shapes that do not fit, a row that is not there, or a relevant row ranked twice.
    """
    if order.ndim != 2 or relevant.shape != (order.shape[0], len(codes)):
        raise ValueError(f"order {order.shape} and relevant {relevant.shape} do not fit {len(codes)} rows")
    if order.size and not -1 <= int(order.min()) <= int(order.max()) < len(codes):
        raise ValueError(f"order names rows {order.min()}..{order.max()} of a gallery of {len(codes)}")
    rows = np.maximum(order, 0)
    hits = _hits(order, relevant, order.shape[1]) if len(codes) else np.zeros(order.shape, np.bool_)
    query, rank = np.nonzero(hits)
    if len(np.unique(query * max(len(codes), 1) + rows[query, rank])) < len(query):
        raise ValueError("a relevant gallery row is ranked twice for one query")
    total = _positives(relevant)
    scores = {
        "image_ap": _precisions(hits, np.ones_like(hits)) / total,
        "id_ap": _id_ap(rows, order >= 0, hits, relevant, codes),
    }
    for cut in cuts:
        inside = hits[:, :cut].sum(1)
        scores[f"hit@{cut}"] = np.where(np.isnan(total), np.nan, inside > 0)
        scores[f"recall@{cut}"] = inside / total
    return scores


def ranking(
    scores: npt.NDArray[np.floating], excluded: Bools | None = None, depth: int | None = None
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
    positives = _positives(relevant)
    return _precisions(hits, np.ones_like(hits)) / (
        np.minimum(positives, k) if over == "min(P,k)" else positives
    )


def ndcg_at(order: Integers, gains: npt.NDArray[np.floating], k: int) -> Floats:
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


def overlap_summary(
    order: Integers, gains: npt.NDArray[np.floating], positive: float, cuts: tuple[int, ...]
) -> dict[str, float]:
    """Means of what SupScene and MIRorR report, by name.

    gains: (B, N) overlaps, of which `positive` and more are relevant.
    """
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


def concatenate(chunks: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    """The scores of several runs of queries as one."""
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in (chunks[0] if chunks else ())}


def summarise(scores: Mapping[str, Floats]) -> Summary:
    """The means of `score_queries`, where image_ap becomes image_map and id_ap id_map."""
    counted = ~np.isnan(scores["image_ap"])
    means = {
        MEANS.get(name, name): float(values[counted].mean()) if counted.any() else float("nan")
        for name, values in scores.items()
    }
    return Summary(means, int(counted.sum()), int((~counted).sum()))


def interval(
    values: Floats,
    *,
    clusters: Sequence[str] | None = None,
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The mean of (B,) values and its percentile bootstrap interval; NaN values are left out.

    clusters: (B,) names; the queries of one cluster (the views of one crater) are drawn together, because
    they succeed and fail together. Without it every query is drawn alone.
    Raises ValueError when nothing is left or the lengths differ.
    """
    counted = ~np.isnan(values)
    if not counted.any():
        raise ValueError("no query has a score, so there is no mean")
    if clusters is not None and len(clusters) != len(values):
        raise ValueError(f"{len(clusters)} clusters for {len(values)} values")
    if not 0 < level < 1 or samples < 1:
        raise ValueError(f"level {level} must lie between 0 and 1, and samples {samples} be positive")
    kept = values[counted]
    codes = (
        np.arange(len(kept))
        if clusters is None
        else np.unique(np.asarray(clusters)[counted], return_inverse=True)[1]
    )
    sums = np.bincount(codes, weights=kept)
    sizes = np.bincount(codes)
    random = np.random.default_rng(seed)
    means: list[Floats] = []
    step = max(1, 2**22 // len(sums))  # 4 M draws at a time bound the memory
    for start in range(0, samples, step):
        drawn = random.integers(0, len(sums), (min(step, samples - start), len(sums)))
        means.append(sums[drawn].sum(1) / sizes[drawn].sum(1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(kept.mean()), float(low), float(high))


def difference_interval(
    first: Floats,
    second: Floats,
    *,
    clusters: Sequence[str] | None = None,
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The mean of first - second over the same queries and its interval; it is sure when zero lies outside.

    Raises ValueError when the two do not score the same queries.
    """
    if first.shape != second.shape or (np.isnan(first) != np.isnan(second)).any():
        raise ValueError("the two runs do not score the same queries")
    return interval(first - second, clusters=clusters, samples=samples, level=level, seed=seed)


def _id_ap(rows: npt.NDArray[Any], there: Bools, found: Bools, relevant: Bools, codes: Integers) -> Floats:
    """(B,) AP over distinct groups, each at its best image."""
    count, depth = rows.shape
    groups = int(codes.max(initial=-1)) + 1
    first = np.full((count, groups + 1), depth)  # the best rank of each group; a column more for "no row"
    ranked = np.where(there, codes[rows] if len(codes) else 0, groups)
    flat = (ranked + np.arange(count)[:, None] * (groups + 1)).reshape(-1)
    np.minimum.at(first.reshape(-1), flat, np.tile(np.arange(depth), count))
    is_first = np.zeros((count, depth + 1), np.bool_)
    is_first[np.arange(count)[:, None], first[:, :groups]] = True
    is_first = is_first[:, :depth]
    asked, row = np.nonzero(relevant)
    pairs = np.unique(asked * (groups + 1) + codes[row]) // (groups + 1)  # one a query and relevant group
    total = np.bincount(pairs, minlength=count)
    return _precisions(found & is_first, is_first) / np.where(total > 0, total, np.nan)


def _precisions(hits: Bools, counted: Bools) -> Floats:
    """(B,) sum over a query's hits (B, depth) of hits so far over `counted` so far."""
    precision = np.cumsum(hits, 1) / np.maximum(np.cumsum(counted, 1), 1)
    total: Floats = (precision * hits).sum(1)
    return total


def _hits(order: Integers, relevant: Bools, k: int) -> Bools:
    """(B, k) whether each answer is a positive."""
    first = order[:, :k]
    return np.take_along_axis(relevant, np.maximum(first, 0), 1) & (first >= 0)


def _positives(relevant: Bools) -> Floats:
    total = relevant.sum(1).astype(np.float64)
    return np.where(total > 0, total, np.nan)


def _discounts(count: int) -> Floats:
    return 1 / np.log2(np.arange(2, count + 2))
