"""The shards' candidates become the hits that one index would have given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crater_ray.request import SearchRequest
from crater_ray.serve.searcher import ShardResult


@dataclass(frozen=True, slots=True)
class MergedHit:
    """One hit, and where more can be had of it."""

    shard: int
    row: int
    id: str
    score: float


def merge(found: Sequence[ShardResult | None], request: SearchRequest) -> list[MergedHit]:
    """The best of all shards, best first, ties by id; None is a shard that did not answer.

    Of a shortlist only the candidates of all shards together are kept, ties by segment and then as each shard
    lists them, as one index does it.
    """
    there = [(shard, one) for shard, one in enumerate(found) if one is not None and len(one.rows)]
    if not there:
        return []
    shards = np.concatenate([np.full(len(one.rows), shard) for shard, one in there])
    rows = np.concatenate([one.rows for _, one in there])
    scores = np.concatenate([one.scores for _, one in there])
    ids = np.array([id for _, one in there for id in one.ids], object)
    chosen = np.arange(len(rows))
    firsts = [one.shortlist_scores for _, one in there if one.shortlist_scores is not None]
    segments = [one.segments for _, one in there if one.segments is not None]
    if len(firsts) == len(segments) == len(there):
        order = np.lexsort((np.concatenate(segments), -np.concatenate(firsts)))  # stable: ties as listed
        chosen = order[: request.shortlisted]
    best = sorted(chosen.tolist(), key=lambda at: (-scores[at], ids[at]))[: request.top]
    return [MergedHit(int(shards[at]), int(rows[at]), str(ids[at]), float(scores[at])) for at in best]
