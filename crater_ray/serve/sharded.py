"""The shards of a service as the source of a SearchPipeline: encoded elsewhere, searched by all, merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np

from crater_ray.errors import QueryError
from crater_ray.request import SearchRequest
from crater_ray.serve.calls import gathered
from crater_ray.serve.encoder import Encoded
from crater_ray.serve.models import Places, Shards
from crater_ray.serve.replicas import Replicas
from crater_ray.serve.searcher import Detail, ShardQuery, ShardResult, StoredItem


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


@dataclass
class ShardedSource:
    """What one request makes of the shards, and what it learns of its query on the way."""

    replicas: Replicas
    strict: bool
    seconds: dict[str, float] = field(default_factory=dict)
    shards: Shards | None = None
    where: Places | None = None  # the query image's tokens, with explain
    item: Detail | None = None  # the item that is the query
    width: int = 0  # tokens of the query
    _details: list[Detail] | None = None  # of the hits, where one shard is all there is

    @property
    def _whole(self) -> bool:
        return len(self.replicas.searchers) == 1

    async def encode_query(self, request: SearchRequest) -> ShardQuery:
        query, began = ShardQuery(replace(request, image=None), None, None, self._whole), perf_counter()
        if request.image is not None:
            encoded: Encoded | QueryError = await self.replicas.encoder(
                "encode", request.image, request.explain
            )
            if isinstance(encoded, QueryError):
                raise encoded
            spent = perf_counter() - began - sum(encoded.seconds.values())
            self.seconds |= encoded.seconds | {"encode_wait": spent}
            self.where = encoded.where
            return replace(query, vectors=encoded.vectors, tokens=encoded.tokens)
        if self._whole:  # the shard has what is stored of the item
            return query
        assert request.id is not None
        assert request.version is not None
        item: StoredItem = await self.replicas.owner("stored", request.version, request.id)
        self.item = item.detail
        self.seconds["lookup"] = perf_counter() - began
        return replace(query, vectors=item.vectors, tokens=item.tokens)

    async def rank_queries(self, queries: ShardQuery, request: SearchRequest) -> list[list[MergedHit]]:
        """Raises NoAnswer when no shard answers, or with strict not every one."""
        query = replace(queries, request=replace(request, image=None))
        found, self.shards = await self.replicas.every("search", query, strict=self.strict)
        results: list[ShardResult | None] = found
        first = next(one for one in results if one is not None)
        self.width = first.width
        if self._whole:
            self._details, self.item = first.details, first.query
        return [merge(results, request)]

    async def join_hits(
        self, queries: ShardQuery, rankings: Sequence[list[MergedHit]], places: Sequence[int]
    ) -> ShardQuery:
        version = queries.request.version
        stored: list[StoredItem] = await gathered(
            self.replicas.shard(hit.shard, "stored", version, hit.id) for hit in rankings[places[0]]
        )
        return replace(queries, joined=tuple(stored))

    async def describe_hits(
        self, query: ShardQuery, ranking: list[MergedHit], request: SearchRequest
    ) -> list[Detail]:
        if self._details is not None:
            return self._details
        by_shard: dict[int, list[int]] = {}
        for place, hit in enumerate(ranking):
            by_shard.setdefault(hit.shard, []).append(place)
        tokens = query.tokens if request.explain else None
        answers: list[list[Detail]] = await gathered(
            self.replicas.shard(shard, "describe", request.version, _rows(ranking, places), tokens)
            for shard, places in by_shard.items()
        )
        details: dict[int, Detail] = {}
        for places, answer in zip(by_shard.values(), answers, strict=True):
            details |= dict(zip(places, answer, strict=True))
        return [details[place] for place in range(len(ranking))]


def _rows(ranking: Sequence[MergedHit], places: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([ranking[place].row for place in places], np.int64)
