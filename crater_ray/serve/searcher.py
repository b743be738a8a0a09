"""One shard of an index: its segments of the versions in use, checked, opened, searched. No Ray, no HTTP."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from crater_ray.errors import QueryError
from crater_ray.filters import mask as filter_mask
from crater_ray.filters import own_columns
from crater_ray.request import Box, Filter, Near, SearchRequest
from crater_ray.retrieve import Index
from crater_ray.search.expand import Joined
from crater_ray.serve.columns import described, plain
from crater_ray.serve.models import Column, Value
from crater_ray.serve.shards import spread
from crater_ray.types import TokenPair

if TYPE_CHECKING:
    from crater_ray.shard import Queries

Array = np.ndarray[Any, Any]


class NotHeld(Exception):
    """This searcher does not have the version a request is pinned to, yet or any more: ask another."""


class UnknownItem(QueryError):
    """An id that the version does not have."""


@dataclass(frozen=True, slots=True)
class ShardQuery:
    """One encoded query for one shard. An item as a query may do with its id: its own shard has the rest."""

    request: SearchRequest  # without its image, under a version
    vectors: Array | None  # (m, G)
    tokens: Array | None  # (Q, D)
    whole: bool = False  # this shard is all there is: only the best, described
    joined: tuple[StoredItem, ...] = ()  # its first hits, which join it


@dataclass(frozen=True, slots=True)
class Detail:
    """What a reply says of an item."""

    group: str
    columns: dict[str, Value]
    explanation: tuple[TokenPair, ...] = ()


@dataclass(frozen=True, slots=True)
class ShardResult:
    """A shard's answer, in the shard's own order; n candidates."""

    rows: Array  # (n,) int64, of the shard
    ids: list[str]
    scores: Array  # (n,) float32
    shortlist_scores: Array | None = None  # (n,) float32; None in mode exact and when whole
    segments: Array | None = None  # (n,) int64, which of the version's segments
    details: list[Detail] | None = None  # when whole
    query: Detail | None = None  # of the item that is the query, when whole
    width: int = 0  # tokens of the query


@dataclass(frozen=True, slots=True)
class StoredItem:
    """What the index keeps of an item: all that another shard needs to be searched with it."""

    id: str
    row: int  # of its own shard
    vectors: Array
    tokens: Array
    detail: Detail


@dataclass(frozen=True, slots=True)
class Place:
    """Where an item's image comes from."""

    detail: Detail
    reader: int  # of the version's
    uri: str


@dataclass(frozen=True, slots=True)
class Page:
    columns: list[str]
    rows: list[list[Value]]
    total: int  # items of this shard that pass
    next: int | None  # the row to go on from


@dataclass(frozen=True, slots=True)
class Summary:
    items: int
    columns: list[Column]


class Share:
    """This shard's rows of one version."""

    def __init__(self, root: Path, version: int, shard: int, shards: int, threads: int | None) -> None:
        mine = spread(root, version, shards)[shard]
        self.index = Index(root, version, threads=threads, segments=mine)
        self.shard = self.index.local.shard
        self.version = version

    def open(self) -> None:
        """Checks every file and reads what queries need, so that none of them waits. Raises DamagedIndex."""
        from crater_ray.shard import Queries

        snapshot = self.index.snapshot
        snapshot.check()
        _ = snapshot.scales, snapshot.id_ranks, snapshot.ids, snapshot.groups, self.index.codec
        _ = self.items, self.segment_of_row
        self.shard.warm()
        if len(snapshot):  # what is set up by the first search is set up now
            self.shard.rank(Queries(*self.index.stored(np.array([0]))), SearchRequest(top=1))

    @cached_property
    def items(self) -> pa.Table:
        return self.index.items().combine_chunks()

    @cached_property
    def segment_of_row(self) -> Array:
        """(N,) int64, which of the version's segments a row is in."""
        snapshot = self.index.snapshot
        found = np.zeros(len(snapshot), np.int64)
        for segment in snapshot.segments:
            rows = snapshot.segment_rows(segment)
            found[rows[rows >= 0]] = snapshot.version.segments.index(segment.sha)
        return found

    def find(self, id: str) -> int | None:
        """The row of an id; None: another shard's, or nobody's."""
        row = int(self.index.snapshot.rows([id])[0])
        return None if row < 0 else row

    def queries(self, query: ShardQuery) -> Queries:
        """As this shard is searched. Raises UnknownItem, QueryError for a column that is not there."""
        from crater_ray.shard import Queries

        request, index = query.request, self.index
        own = self.find(request.id) if request.id is not None else None
        mask = filter_mask(self.items, request.filters, request.box, request.near)
        if own is not None:
            mask = np.ones(len(index), bool) if mask is None else mask
            mask[own] = False
        joined = [self.joined(query.joined)] if query.joined else None
        if query.vectors is not None and query.tokens is not None:
            return Queries(query.vectors[None], query.tokens[None], joined=joined, mask=mask)
        if own is None:
            raise unknown(request.id or "", self.version)
        return Queries(*index.stored(np.array([own])), joined=joined, mask=mask)

    def joined(self, hits: Sequence[StoredItem]) -> Joined:
        """First hits as they join a query here: those of other shards have no row."""
        rows = [-1 if row is None else row for row in (self.find(hit.id) for hit in hits)]
        return Joined(
            np.array(rows, np.int64),
            np.stack([hit.vectors for hit in hits]),
            np.stack([hit.tokens for hit in hits]),
        )

    def detail(self, row: int, explanation: tuple[TokenPair, ...] = ()) -> Detail:
        values = self.items.slice(row, 1).to_pylist()[0]
        own = {name: plain(values[name]) for name in own_columns(self.items.column_names)}
        return Detail(values["group"], own, explanation)


class Searcher:
    """A shard's open versions. One thread at a time may call it."""

    def __init__(self, root: Path, shard: int, shards: int, threads: int | None = None) -> None:
        self.root, self.shard, self.shards, self.threads = Path(root), shard, shards, threads
        self.held: dict[int, Share] = {}

    def hold(self, versions: Collection[int]) -> None:
        """Opens and checks what is new, and lets go of the rest; as before when one cannot be opened.

        Raises IndexMismatch for a version that is not there, DamagedIndex for one that is not whole.
        """
        held: dict[int, Share] = {}
        for version in sorted(set(versions)):
            share = self.held.get(version)
            if share is None:
                share = Share(self.root, version, self.shard, self.shards, self.threads)
                share.open()
            held[version] = share
        self.held = held

    def share(self, version: int) -> Share:
        """Raises NotHeld."""
        found = self.held.get(version)
        if found is None:
            raise NotHeld(f"shard {self.shard} holds versions {sorted(self.held)}, not {version}")
        return found

    def holds(self, version: int) -> bool:
        return version in self.held

    def search(self, query: ShardQuery) -> ShardResult:
        """The candidates of one query, or the hits when this shard is the whole index.

        Raises UnknownItem, QueryError for a column that is not there, NotHeld.
        """
        request = query.request
        assert request.version is not None  # the service pins one
        share = self.share(request.version)
        queries, firsts = share.queries(query), None
        if request.mode == "exact" or query.whole:
            (ranking,) = share.shard.rank(queries, request)
            rows, scores = ranking.rows, ranking.scores
        else:
            found = share.shard.candidates(queries, request)
            there = found.rows[0] >= 0
            rows, scores, firsts = (
                found.rows[0][there],
                found.scores[0][there],
                found.shortlist_scores[0][there],
            )
        ids = [share.index.snapshot.ids[int(row)].as_py() for row in rows]
        width = queries.tokens.shape[1]
        if not query.whole:
            return ShardResult(rows, ids, scores, firsts, share.segment_of_row[rows], width=width)
        details = self.describe(request.version, rows, queries.tokens[0] if request.explain else None)
        own = share.find(request.id) if request.id is not None else None
        item = share.detail(own) if own is not None else None
        return ShardResult(rows, ids, scores, details=details, query=item, width=width)

    def describe(self, version: int, rows: Array, tokens: Array | None) -> list[Detail]:
        """Of rows of this shard; with the query's tokens (Q, D), their explanations. Raises NotHeld."""
        share = self.share(version)
        explanations: Sequence[tuple[TokenPair, ...]] = [()] * len(rows)
        if tokens is not None and len(rows):
            explanations = share.shard.explain(tokens, np.asarray(rows, np.int64))
        return [share.detail(int(row), pairs) for row, pairs in zip(rows, explanations, strict=True)]

    def stored(self, version: int, id: str) -> StoredItem | None:
        """What is stored of an item of this shard, None of another's. Raises NotHeld."""
        share = self.share(version)
        row = share.find(id)
        if row is None:
            return None
        vectors, tokens = share.index.stored(np.array([row]))
        return StoredItem(id, row, vectors[0], tokens[0], share.detail(row))

    def place(self, version: int, id: str) -> Place | None:
        """Where an item of this shard comes from, None for another's. Raises NotHeld."""
        share = self.share(version)
        row = share.find(id)
        if row is None:
            return None
        part, _ = share.index.snapshot.part_of(row)
        return Place(share.detail(row), part.entry.reader, share.items["uri"][row].as_py())

    def page(
        self,
        version: int,
        first: int,
        limit: int,
        columns: Sequence[str] | None,
        filters: Sequence[Filter],
        box: Box | None,
        near: Near | None,
    ) -> Page:
        """Up to `limit` items of this shard that pass, from row `first` on. Raises QueryError, NotHeld."""
        table = self.share(version).items
        there = own_columns(table.column_names)
        for name in columns or ():
            if name not in (*there, "id", "group"):
                raise QueryError(f"no column {name!r}; there are: {', '.join(['id', 'group', *there])}")
        own = there if columns is None else [name for name in columns if name in there]
        passing = filter_mask(table, filters, box, near)
        rows = np.arange(len(table)) if passing is None else np.flatnonzero(passing)
        some = rows[rows >= first][: limit + 1]
        following = int(some[limit]) if len(some) > limit else None
        shown = ["id", "group", *own]
        values = table.select(shown).take(pa.array(some[:limit])).to_pydict()
        listed = [[plain(value) for value in row] for row in zip(*values.values(), strict=True)]
        return Page(shown, listed, len(rows), following)

    def summary(self, version: int) -> Summary:
        """Raises NotHeld."""
        table = self.share(version).items
        return Summary(len(table), described(table))


def unknown(id: str, version: int) -> UnknownItem:
    """The error for an id that no shard has."""
    return UnknownItem(f"no item {id!r} in version {version}; ids are those of the reader: see GET /v1/items")
