"""What is done for a request: encode, ask every shard under one pinned version, merge, describe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar
from urllib.parse import quote

from crater_ray.index.config import IndexConfig
from crater_ray.index.store import store_at
from crater_ray.index.versions import Version, numbers, read
from crater_ray.pipeline import SearchPipeline
from crater_ray.request import Box, Filter, Near, SearchRequest
from crater_ray.serve import models
from crater_ray.serve.columns import together
from crater_ray.serve.models import (
    BaseMap,
    Column,
    Grid,
    IndexReply,
    IndexVersion,
    Item,
    Items,
    ItemTokens,
    Limits,
    Places,
    Query,
    Ready,
    SearchHit,
    SearchReply,
    Shards,
    Value,
)
from crater_ray.serve.replicas import Replicas
from crater_ray.serve.searcher import Page, Place, Summary
from crater_ray.serve.sharded import ShardedSource
from crater_ray.serve.threads import off_loop

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
        item, shown = source.item, request.explain
        hits = [
            SearchHit(
                rank=rank,
                id=hit.id,
                group=detail.group,
                score=hit.score,
                columns=detail.columns,
                explanation=list(detail.explanation) if shown else None,
            )
            for rank, (hit, detail) in enumerate(zip(ranking, details, strict=True), 1)
        ]
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
            hits=hits,
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
            image=f"/v1/items/{quote(id, safe='')}/image",
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
        """Whether every shard holds the current version now."""
        version = self.pin.version
        shards = await self.replicas.ready(version)
        return Ready(ready=shards.answered == shards.total, version=version, shards=shards)

    async def describe(self, basemaps: Sequence[BaseMap], prefix: str) -> IndexReply:
        """What is served; `prefix` stands before the service's own paths. Raises NoAnswer."""
        pin, summary = await self.summary()
        ready = await self.ready()
        version = await off_loop(self.listed, pin.version)
        table, config = self.replicas.table, self.config
        rows, columns = config.grid
        return IndexReply(
            name=self.name,
            version=pin.version,
            held=list(pin.held),
            published=await off_loop(numbers, store_at(self.root)),
            items=summary.items,
            parts=len(version.parts),
            segments=len(version.segments),
            shards=ready.shards or Shards(answered=0, total=len(self.replicas.searchers)),
            columns=summary.columns,
            config=models.IndexConfig(
                backbone=config.backbone.name,
                shortlist=config.shortlist.name,
                rerank=config.rerank.name,
                k=config.k,
                dim=config.dim,
                codec=config.codec,
                scoring=config.scoring,
                grid=Grid(rows=rows, columns=columns),
            ),
            limits=Limits(
                bytes=table.max_bytes,
                pixels=min(table.max_pixels, config.max_pixels),
                timeout_s=table.timeout_s,
            ),
            basemaps=[one.model_copy(update={"url": prefix + one.url}) for one in basemaps],
        )

    def listed(self, number: int) -> Version:
        """What a version lists, read once: its file may go while its searchers still answer from it."""
        if number not in self._versions:
            _remember(self._versions, number, read(store_at(self.root), number))
        return self._versions[number]

    def put(self, pin: Pin) -> None:
        """From now on new requests are answered from this version."""
        found = self.listed(pin.version)
        self.pin = pin
        self.replicas.metrics.version(pin.version, sum(part.skipped for part in found.parts))


def _remember(known: dict[Any, Kind], key: Any, value: Kind) -> None:
    while len(known) >= REMEMBERED:
        known.pop(next(iter(known)))
    known[key] = value
