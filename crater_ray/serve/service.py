"""What is done for a request: encode, ask every shard under one pinned version, merge, describe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

from crater_ray.index.config import IndexConfig
from crater_ray.index.store import store_at
from crater_ray.index.versions import Version, read
from crater_ray.pipeline import SearchPipeline
from crater_ray.request import Box, Filter, Near, SearchRequest
from crater_ray.serve.columns import together
from crater_ray.serve.models import (
    Column,
    IndexVersion,
    Item,
    Items,
    ItemTokens,
    Places,
    Query,
    Ready,
    SearchHit,
    SearchReply,
    Shards,
    TokenPair,
    Value,
)
from crater_ray.serve.replicas import Replicas
from crater_ray.serve.searcher import Detail, Page, Place, Summary
from crater_ray.serve.sharded import MergedHit, ShardedSource

REMEMBERED = 512  # pictures' places
Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class Pin:
    """The version every new request is answered from, and all that the searchers hold."""

    version: int
    held: tuple[int, ...]


@dataclass
class Service:
    """What replicas answer, under the current version."""

    root: Path
    name: str
    replicas: Replicas
    pin: Pin
    config: IndexConfig
    _places: dict[tuple[int, str], Places] = field(default_factory=dict)
    _summaries: dict[int, Summary] = field(default_factory=dict)
    _versions: dict[int, Version] = field(default_factory=dict)

    async def search(self, request: SearchRequest, strict: bool, request_id: str) -> SearchReply:
        """The hits. Raises QueryError, Busy, and NoAnswer when no shard (strict: not every one) answers."""
        start = perf_counter()
        version = self.pin.version
        request = replace(request, version=version)
        source = ShardedSource(self.replicas, strict)
        pipeline = SearchPipeline(source, source.seconds)
        _, ranking, details = await pipeline.search(request)
        seconds = {**pipeline.seconds, "total": perf_counter() - start}
        shards = source.shards or Shards(answered=0, total=len(self.replicas.searchers))
        for stage, spent in seconds.items():
            self.replicas.metrics.stage(stage, spent)
        self.replicas.metrics.shards(shards.answered, shards.total)
        item = source.item
        return SearchReply(
            request_id=request_id,
            index=IndexVersion(name=self.name, version=version),
            query=Query(
                id=request.id,
                group=item.group if item else None,
                columns=item.columns if item else None,
                tokens=source.width,
                where=source.where,
            ),
            hits=_hits(ranking, details, request.explain),
            shards=shards,
            seconds={stage: round(spent, 6) for stage, spent in seconds.items()},
            **request.described(),
        )

    async def item(self, id: str) -> Item:
        """Raises UnknownItem, NoAnswer."""
        version = self.pin.version
        place: Place = await self.replicas.owner("place", version, id)
        return Item(
            id=id,
            group=place.detail.group,
            columns=place.detail.columns,
            index=IndexVersion(name=self.name, version=version),
            image=f"/v1/items/{_quoted(id)}/image",
        )

    async def picture(self, id: str, size: int | None) -> bytes:
        """A PNG. Raises UnknownItem, QueryError when the reader cannot load it, NoAnswer."""
        version = self.pin.version
        place: Place = await self.replicas.owner("place", version, id)
        png: bytes = await self.replicas.encoder("picture", version, place.reader, place.uri, size)
        return png

    async def tokens(self, id: str) -> ItemTokens:
        """Raises UnknownItem, QueryError when the reader cannot load its image, NoAnswer."""
        version = self.pin.version
        where = self._places.get((version, id))
        if where is None:
            place: Place = await self.replicas.owner("place", version, id)
            where = await self.replicas.encoder("places", version, place.reader, place.uri)
            _remember(self._places, (version, id), where)
        return ItemTokens(id=id, where=where)

    async def items(
        self,
        cursor: tuple[int, int],
        limit: int,
        columns: Sequence[str] | None,
        filters: Sequence[Filter],
        box: Box | None,
        near: Near | None,
    ) -> Items:
        """One page, shard after shard. Raises QueryError, NoAnswer."""
        version, (at, row) = self.pin.version, cursor
        rows: list[list[Value]] = []
        following: str | None = None
        total, shown = 0, []
        for shard in range(len(self.replicas.searchers)):  # one after another: few, and rows in order
            here = shard >= at and following is None
            first, room = row if shard == at else 0, limit - len(rows) if here else 0
            page: Page = await self.replicas.shard(
                shard, "page", version, first, room, columns, filters, box, near
            )
            total, shown = total + page.total, page.columns
            if here:
                rows += page.rows
                following = None if page.next is None else f"{shard}.{page.next}"
        return Items(
            index=IndexVersion(name=self.name, version=version),
            columns=shown,
            rows=rows,
            total=total,
            next=following,
        )

    async def summary(self) -> tuple[Pin, Summary]:
        """Of the current version: remembered, for it never changes. Raises NoAnswer."""
        pin = self.pin
        if pin.version not in self._summaries:
            whole, _ = await self.replicas.every("summary", pin.version, strict=True)
            columns: dict[str, Column] = {}
            for part in whole:
                for column in part.columns:
                    known = columns.get(column.name)
                    columns[column.name] = column if known is None else together(known, column)
            total = reduce(lambda items, part: items + part.items, whole, 0)
            _remember(self._summaries, pin.version, Summary(total, list(columns.values())))
        return pin, self._summaries[pin.version]

    async def ready(self) -> Ready:
        """Whether every shard holds the current version, asked now."""
        version = self.pin.version
        shards = await self.replicas.ready(version)
        return Ready(ready=shards.answered == shards.total, version=version, shards=shards)

    def described(self, number: int) -> Version:
        """What a version lists, read once: its file may go while its searchers still answer from it."""
        if number not in self._versions:
            _remember(self._versions, number, read(store_at(self.root), number))
        return self._versions[number]

    def put(self, pin: Pin) -> None:
        """From now on new requests are answered from this version."""
        found = self.described(pin.version)
        self.pin = pin
        self.replicas.metrics.version(pin.version, sum(part.skipped for part in found.parts))


def _hits(ranking: Sequence[MergedHit], details: Sequence[Detail], explain: bool) -> list[SearchHit]:
    return [
        SearchHit(
            rank=rank,
            id=hit.id,
            group=detail.group,
            score=hit.score,
            columns=detail.columns,
            explanation=[TokenPair(**asdict(pair)) for pair in detail.explanation] if explain else None,
        )
        for rank, (hit, detail) in enumerate(zip(ranking, details, strict=True), 1)
    ]


def _remember(known: dict[Any, Kind], key: Any, value: Kind) -> None:
    while len(known) >= REMEMBERED:
        known.pop(next(iter(known)))
    known[key] = value


def _quoted(id: str) -> str:
    from urllib.parse import quote

    return quote(id, safe="")
