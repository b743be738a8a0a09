"""One search, whoever asks and wherever the rows are: encode, shortlist and rerank, expand, describe."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Generic, Protocol, TypeVar

from crater_ray.request import SearchRequest

Query = TypeVar("Query")  # encoded queries, one or a batch
Ranking = TypeVar("Ranking", bound=Sized)  # the hits of one query, best first
Details = TypeVar("Details", covariant=True)
Value = TypeVar("Value")


class Source(Protocol[Query, Ranking, Details]):
    """Where the rows are: an index of this process, or the shards of a service."""

    async def encode_query(self, request: SearchRequest) -> Query:
        """The query of the request: an image, encoded, or an item with what is stored of it."""

    async def rank_queries(self, queries: Query, request: SearchRequest) -> list[Ranking]:
        """The `top` best of the shortlist, reranked unless it is all; or of all rows in mode exact."""

    async def join_hits(self, queries: Query, rankings: Sequence[Ranking], places: Sequence[int]) -> Query:
        """The queries at `places`, each joined by what is stored of its hits."""

    async def describe_hits(self, query: Query, ranking: Ranking, request: SearchRequest) -> Details:
        """What is told of each hit; with `explain` its explanation."""


@dataclass
class SearchPipeline(Generic[Query, Ranking, Details]):
    """The steps of a search over a source."""

    source: Source[Query, Ranking, Details]
    seconds: dict[str, float] = field(default_factory=dict)  # by stage

    async def search(self, request: SearchRequest) -> tuple[Query, Ranking, Details]:
        """The encoded query, its hits, and what is told of them."""
        query = await self.source.encode_query(request)
        (ranking,) = await self.rank(query, request)
        with self._timed("describe"):
            return query, ranking, await self.source.describe_hits(query, ranking, request)

    async def rank(self, queries: Query, request: SearchRequest) -> list[Ranking]:
        """The hits of each query. With `expand` a query is joined by its first hits and searched again."""
        if not request.expand:
            with self._timed("search"):
                return await self.source.rank_queries(queries, request)
        with self._timed("expand"):
            rankings = await self.source.rank_queries(queries, request.first_pass())
            counts = [len(ranking) for ranking in rankings]
            batches = [  # of equal counts together: the same shapes
                [place for place, count in enumerate(counts) if count == wanted]
                for wanted in sorted({*counts} - {0})
            ]
            joined = [await self.source.join_hits(queries, rankings, places) for places in batches]
        with self._timed("search"):
            for places, batch in zip(batches, joined, strict=True):
                for place, ranking in zip(
                    places, await self.source.rank_queries(batch, request), strict=True
                ):
                    rankings[place] = ranking
        return rankings

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = perf_counter()
        yield
        self.seconds[stage] = perf_counter() - began


def run_inline(search: Coroutine[Any, Any, Value]) -> Value:
    """The result of a coroutine that waits for nothing: a source of this process never does."""
    try:
        search.send(None)
    except StopIteration as done:
        value: Value = done.value
        return value
    raise RuntimeError("a source of this process waited for something")
