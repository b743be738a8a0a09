"""What is done for a request: encode, ask every shard under one pinned version, merge, describe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

from crater_ray.config import ServeTable
from crater_ray.errors import QueryError
from crater_ray.index.config import Recipe
from crater_ray.index.store import store_at
from crater_ray.index.versions import Version, read
from crater_ray.serve.calls import Fault, Late, NoAnswer, Target, call, call_all, gathered
from crater_ray.serve.deadline import left
from crater_ray.serve.encoder import Encoded
from crater_ray.serve.filters import together
from crater_ray.serve.merge import Winner, merge
from crater_ray.serve.metrics import Metrics, NoMetrics
from crater_ray.serve.models import (
    Box,
    Column,
    Filter,
    IndexVersion,
    Item,
    Items,
    ItemTokens,
    Options,
    Places,
    Query,
    Ready,
    SearchHit,
    SearchReply,
    Shards,
    TokenPair,
    Value,
)
from crater_ray.serve.searcher import Ask, Detail, Found, Kept, Page, Place, Summary, unknown

PATIENCE = 0.9  # of a request's time, for shards of which others may answer
REMEMBERED = 512  # pictures' places
Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class Pin:
    """The version every new request is answered from, and all that the searchers hold."""

    version: int
    held: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A query before it is encoded: an image or an item."""

    image: bytes | None = None
    id: str | None = None


@dataclass
class Service:
    """The searchers, one target a shard, the encoders, and the current version."""

    root: Path
    name: str
    table: ServeTable
    searchers: Sequence[Target]
    encoder: Target
    pin: Pin
    recipe: Recipe
    metrics: Metrics = field(default_factory=NoMetrics)
    _places: dict[tuple[int, str], Places] = field(default_factory=dict)
    _summaries: dict[int, Summary] = field(default_factory=dict)
    _versions: dict[int, Version] = field(default_factory=dict)

    async def search(self, asked: Asked, options: Options, request_id: str) -> SearchReply:
        """The hits. Raises QueryError, Busy, and NoAnswer when no shard (strict: not every one) answers."""
        start = perf_counter()
        version = self.pin.version
        seconds: dict[str, float] = {}
        encoded: Encoded | None = None
        if asked.image is not None:
            encoded = await self._encoded(asked.image, options.explain)
            seconds |= encoded.seconds | {
                "encode_wait": perf_counter() - start - sum(encoded.seconds.values())
            }
        before = perf_counter()
        ask = Ask(
            version,
            encoded.vectors if encoded else None,
            encoded.tokens if encoded else None,
            asked.id,
            options.top,
            options.deep,
            tuple(options.filters),
            options.box,
            options.explain,
            whole=len(self.searchers) == 1,
        )
        kept: Kept | None = None
        if asked.id is not None and (options.expand or not ask.whole):
            kept = await self._owned("kept", version, asked.id)
            ask = replace(ask, vectors=kept.vectors, tokens=kept.tokens)
        if options.expand:
            ask = await self._expanded(ask, options)
            seconds["expand"] = perf_counter() - before
            before = perf_counter()
        found, shards = await self._found(ask, options)
        winners = merge(found, top=options.top, candidates=options.deep)
        seconds["search"] = perf_counter() - before
        if ask.whole and found[0] is not None:
            details, query = found[0].details or [], found[0].query
        else:
            before = perf_counter()
            own = ask.tokens if options.explain else None
            details = await self._described(version, winners, own)
            query = kept.detail if kept else None
            seconds["describe"] = perf_counter() - before
        seconds["total"] = perf_counter() - start
        for stage, spent in seconds.items():
            self.metrics.stage(stage, spent)
        self.metrics.shards(shards.answered, shards.total)
        width = next(one.width for one in found if one is not None)
        return SearchReply(
            request_id=request_id,
            index=IndexVersion(name=self.name, version=version),
            mode=options.mode,
            candidates=options.deep,
            expand=options.expand,
            top=options.top,
            filters=options.filters,
            box=options.box,
            query=_query(asked, encoded, query, width),
            hits=_hits(winners, details, options.explain),
            shards=shards,
            seconds={stage: round(spent, 6) for stage, spent in seconds.items()},
        )

    async def item(self, id: str) -> Item:
        """Raises UnknownItem, NoAnswer."""
        version = self.pin.version
        place: Place = await self._owned("place", version, id)
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
        place: Place = await self._owned("place", version, id)
        png: bytes = await self._encoder("picture", version, place.reader, place.uri, size)
        return png

    async def tokens(self, id: str) -> ItemTokens:
        """Raises UnknownItem, QueryError when the reader cannot load its image, NoAnswer."""
        version = self.pin.version
        where = self._places.get((version, id))
        if where is None:
            place: Place = await self._owned("place", version, id)
            where = await self._encoder("places", version, place.reader, place.uri)
            _remember(self._places, (version, id), where)
        return ItemTokens(id=id, where=where)

    async def items(
        self,
        cursor: tuple[int, int],
        limit: int,
        columns: Sequence[str] | None,
        filters: Sequence[Filter],
        box: Box | None,
    ) -> Items:
        """One page, shard after shard. Raises QueryError, NoAnswer."""
        version, (at, row) = self.pin.version, cursor
        rows: list[list[Value]] = []
        following: str | None = None
        total, shown = 0, []
        for shard, searcher in enumerate(
            self.searchers
        ):  # one after another: they are few, and rows in order
            here = shard >= at and following is None
            first, room = row if shard == at else 0, limit - len(rows) if here else 0
            page: Page = await self._call(searcher, "page", version, first, room, columns, filters, box)
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
            answers = await self._all("summary", pin.version)
            whole: list[Summary] = [answer for answer in answers if not isinstance(answer, NoAnswer)]
            self._enough(Shards(answered=len(whole), total=len(answers)), strict=True, answers=answers)
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
        answers = await call_all(
            self.searchers, "holds", version, name="searcher", retries=0, timeout_s=self.table.ready_timeout_s
        )
        answered = sum(answer is True for answer in answers)
        shards = Shards(answered=answered, total=len(answers))
        return Ready(ready=answered == len(answers), version=version, shards=shards)

    def described(self, number: int) -> Version:
        """What a version lists, read once: its file may go while its searchers still answer from it."""
        if number not in self._versions:
            _remember(self._versions, number, read(store_at(self.root), number))
        return self._versions[number]

    def put(self, pin: Pin) -> None:
        """From now on new requests are answered from this version."""
        found = self.described(pin.version)
        self.pin = pin
        self.metrics.version(pin.version, sum(part.skipped for part in found.parts))

    # the shards

    async def _found(self, ask: Ask, options: Options) -> tuple[list[Found | None], Shards]:
        """Each shard's answer. Raises NoAnswer when too few answer."""
        answers = await self._all("search", ask)
        found: list[Found | None] = [None if isinstance(one, NoAnswer) else one for one in answers]
        shards = Shards(answered=sum(one is not None for one in found), total=len(found))
        self._enough(shards, options.strict, answers)
        return found, shards

    async def _expanded(self, ask: Ask, options: Options) -> Ask:
        """The query and its first hits, which join it. Raises NoAnswer."""
        deep = None if options.deep is None else max(options.deep, options.expand)
        first = replace(ask, top=options.expand, candidates=deep, explain=False, whole=False)
        found, _ = await self._found(first, options)
        winners = merge(found, top=options.expand, candidates=deep)
        kept: list[Kept] = await gathered(
            self._call(self.searchers[one.shard], "kept", ask.version, one.id) for one in winners
        )
        return replace(ask, joined=tuple(kept))

    async def _encoded(self, image: bytes, places: bool) -> Encoded:
        answer: Encoded | QueryError = await self._encoder("encode", image, places)
        if isinstance(answer, QueryError):
            raise answer
        return answer

    async def _encoder(self, method: str, *arguments: Any) -> Any:
        return await self._call(self.encoder, method, *arguments, name="encoder")

    async def _call(self, target: Target, method: str, *arguments: Any, name: str = "searcher") -> Any:
        table = self.table
        return await call(
            target, method, *arguments, name=name, retries=table.retries, timeout_s=table.timeout_s
        )

    async def _all(self, method: str, *arguments: Any) -> list[Any]:
        """Of several shards one that is late leaves time to answer without it."""
        table = self.table
        time = min(left(), table.timeout_s)
        return await call_all(
            self.searchers,
            method,
            *arguments,
            name="searcher",
            retries=table.retries,
            timeout_s=time if len(self.searchers) == 1 else PATIENCE * time,
        )

    async def _owned(self, method: str, version: int, id: str) -> Any:
        """What the one shard that has the item says. Raises UnknownItem, NoAnswer."""
        answers = await self._all(method, version, id)
        for answer in answers:
            if answer is not None and not isinstance(answer, NoAnswer):
                return answer
        _explained(answers)
        if any(isinstance(answer, NoAnswer) for answer in answers):
            raise NoAnswer("a shard that may have the item does not answer; try again")
        raise unknown(id, version)

    async def _described(
        self, version: int, winners: Sequence[Winner], tokens: np.ndarray[Any, Any] | None
    ) -> list[Detail]:
        by_shard: dict[int, list[int]] = {}
        for place, winner in enumerate(winners):
            by_shard.setdefault(winner.shard, []).append(place)
        answers: list[list[Detail]] = await gathered(
            self._call(
                self.searchers[shard],
                "describe",
                version,
                np.array([winners[place].row for place in places], np.int64),
                tokens,
            )
            for shard, places in by_shard.items()
        )
        details: dict[int, Detail] = {}
        for places, answer in zip(by_shard.values(), answers, strict=True):
            details |= dict(zip(places, answer, strict=True))
        return [details[place] for place in range(len(winners))]

    def _enough(self, shards: Shards, strict: bool, answers: Sequence[Any]) -> None:
        _explained(answers)
        if shards.answered == 0 or (strict and shards.answered < shards.total):
            self.metrics.shards(shards.answered, shards.total)
            raise NoAnswer(f"{shards.answered} of {shards.total} shards answered; try again")


def _explained(answers: Sequence[Any]) -> None:
    """Raises Late or Fault where that is why not one shard answered."""
    for kind in (Late, Fault):
        if all(isinstance(answer, kind) for answer in answers):
            raise answers[0]


def _query(asked: Asked, encoded: Encoded | None, item: Detail | None, width: int) -> Query:
    return Query(
        id=asked.id,
        group=item.group if item else None,
        columns=item.columns if item else None,
        tokens=width,
        where=encoded.where if encoded else None,
    )


def _hits(winners: Sequence[Winner], details: Sequence[Detail], explain: bool) -> list[SearchHit]:
    return [
        SearchHit(
            rank=rank,
            id=winner.id,
            group=detail.group,
            score=winner.score,
            columns=detail.columns,
            explanation=[
                TokenPair(
                    query_token=pair.query_token,
                    gallery_token=pair.gallery_token,
                    similarity=pair.similarity,
                    contribution=pair.contribution,
                )
                for pair in detail.explanation
            ]
            if explain
            else None,
        )
        for rank, (winner, detail) in enumerate(zip(winners, details, strict=True), 1)
    ]


def _remember(known: dict[Any, Kind], key: Any, value: Kind) -> None:
    while len(known) >= REMEMBERED:
        known.pop(next(iter(known)))
    known[key] = value


def _quoted(id: str) -> str:
    from urllib.parse import quote

    return quote(id, safe="")
