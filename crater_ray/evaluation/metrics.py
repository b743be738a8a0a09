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
from typing import Any

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
    count = order.shape[0]
    there = order >= 0
    rows = np.where(there, order, 0)
    found = np.take_along_axis(relevant, rows, 1) & there if len(codes) else np.zeros_like(there)

    query, rank = np.nonzero(found)  # rank from 0
    if len(np.unique(query * max(len(codes), 1) + rows[query, rank])) < len(query):
        raise ValueError("a relevant gallery row is ranked twice for one query")
    total = _or_nan(relevant.sum(1))
    scores = {
        "image_ap": _precisions(query, rank, count) / total,
        "id_ap": _id_ap(rows, there, found, relevant, codes),
    }
    for cut in cuts:
        inside = np.bincount(query[rank < cut], minlength=count)
        scores[f"hit@{cut}"] = np.where(np.isnan(total), np.nan, inside > 0)
        scores[f"recall@{cut}"] = inside / total
    return scores


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
    group_rank = np.cumsum(is_first, 1) - 1
    query, rank = np.nonzero(found & is_first)
    asked, row = np.nonzero(relevant)
    pairs = np.unique(asked * (groups + 1) + codes[row]) // (groups + 1)  # one a query and relevant group
    total = np.bincount(pairs, minlength=count)
    return _precisions(query, group_rank[query, rank], count) / _or_nan(total)


def _precisions(query: Integers, rank: Integers, count: int) -> Floats:
    """(count,) sum over a query's hits of (hits so far) / (rank from 1); hits sorted by query, then rank."""
    before = np.searchsorted(query, query)  # hits of earlier queries
    nth = np.arange(len(query)) - before + 1
    return np.bincount(query, weights=nth / (rank + 1), minlength=count).astype(np.float64)


def _or_nan(total: npt.NDArray[Any]) -> Floats:
    return np.where(total > 0, total, np.nan)
