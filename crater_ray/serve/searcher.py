"""One shard of an index: its segments of the versions in use, checked, opened, searched. No Ray, no HTTP."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from crater_ray.errors import QueryError
from crater_ray.ranking import handed
from crater_ray.retrieve import Index
from crater_ray.search.expand import Joined
from crater_ray.serve.filters import described, mask, own_columns, plain
from crater_ray.serve.models import Box, Column, Filter, Value
from crater_ray.serve.shards import spread
from crater_ray.types import TokenPair

Array = np.ndarray[Any, Any]


class NotHeld(Exception):
    """This searcher does not have the version a request is pinned to, yet or any more: ask another."""


class UnknownItem(QueryError):
    """An id that the version does not have."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One query for one shard. An item as a query is its `id`, and what its own shard keeps of it."""

    version: int
    vectors: Array | None  # (m, G)
    tokens: Array | None  # (Q, D)
    id: str | None
    top: int
    candidates: int | None  # of mode shortlist; None: mode exact
    filters: tuple[Filter, ...] = ()
    box: Box | None = None
    explain: bool = False
    whole: bool = False  # this shard is all there is: only the best, described
    joined: tuple[Kept, ...] = ()  # its first hits, which join it


@dataclass(frozen=True, slots=True)
class Detail:
    """What a reply says of an item."""

    group: str
    columns: dict[str, Value]
    explanation: tuple[TokenPair, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """A shard's answer, in the shard's own order; n candidates."""

    rows: Array  # (n,) int64, of the shard
    ids: list[str]
    scores: Array  # (n,) float32
    firsts: Array | None = None  # (n,) float32, of the shortlist; None: mode exact
    segments: Array | None = None  # (n,) int64, which of the version's segments
    details: list[Detail] | None = None  # when whole
    query: Detail | None = None  # of the item that was asked with, when whole
    width: int = 0  # tokens of the query


@dataclass(frozen=True, slots=True)
class Kept:
    """What the index keeps of an item: all that another shard needs to be asked with it."""

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
        self.version = version

    def open(self) -> None:
        """Checks every file and reads what queries need, so that none of them waits. Raises DamagedIndex."""
        snapshot = self.index.snapshot
        snapshot.check()
        _ = snapshot.scales, snapshot.id_ranks, snapshot.ids, snapshot.groups, self.index.codec
        _ = self.items, self.segment_of_row
        self.index.warm()
        if len(snapshot):  # what is set up by the first search is set up now
            self.index.search(id=snapshot.ids[0].as_py(), top=1)

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

    def joined(self, hits: Sequence[Kept]) -> Joined:
        """First hits as they join a query here: those of other shards have no row."""
        rows = [-1 if row is None else row for row in (self.find(hit.id) for hit in hits)]
        return Joined(
            np.array(rows, np.int64),
            np.stack([hit.vectors for hit in hits]),
            np.stack([hit.tokens for hit in hits]),
        )

    def detail(self, row: int, explanation: tuple[TokenPair, ...] = ()) -> Detail:
        values = self.items.slice(row, 1).to_pylist()[0]
        own = {name: plain(values[name]) for name in own_columns(self.items)}
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

    def search(self, ask: Ask) -> Found:
        """The candidates of one query, or the hits when this shard is the whole index.

        Raises UnknownItem, QueryError for a column that is not there, NotHeld.
        """
        share = self.share(ask.version)
        index = share.index
        own = share.find(ask.id) if ask.id is not None else None
        vectors, tokens = ask.vectors, ask.tokens
        if vectors is None or tokens is None:
            if own is None:
                raise unknown(ask.id or "", ask.version)
            stored, kept = index.stored(np.array([own]))
            vectors, tokens = stored[0], kept[0]
        allowed = mask(share.items, ask.filters, ask.box)
        if own is not None:
            allowed = np.ones(len(index), bool) if allowed is None else allowed
            allowed[own] = False
        joined = [share.joined(ask.joined)] if ask.joined else None
        firsts = None
        if ask.candidates is not None and not ask.whole:
            rows, first, scores = (
                found[0]
                for found in handed(
                    index, vectors[None], tokens[None], ask.candidates, mask=allowed, joined=joined
                )
            )
            there = rows >= 0
            rows, firsts, scores = rows[there], first[there], scores[there]
        else:
            rows, scores = index.rank(
                vectors[None],
                tokens[None],
                mode="exact" if ask.candidates is None else "shortlist",
                candidates=ask.candidates,
                mask=allowed,
                top=ask.top,
                joined=joined,
            )[0]
        ids = [index.snapshot.ids[int(row)].as_py() for row in rows]
        if not ask.whole:
            return Found(rows, ids, scores, firsts, share.segment_of_row[rows], width=len(tokens))
        details = self.describe(ask.version, rows, tokens if ask.explain else None)
        query = share.detail(own) if own is not None else None
        return Found(rows, ids, scores, details=details, query=query, width=len(tokens))

    def describe(self, version: int, rows: Array, tokens: Array | None) -> list[Detail]:
        """Of rows of this shard; with the query's tokens (Q, D), their explanations. Raises NotHeld."""
        share = self.share(version)
        explanations: Sequence[tuple[TokenPair, ...]] = [()] * len(rows)
        if tokens is not None and len(rows):
            explanations = share.index.explain(tokens, np.asarray(rows, np.int64))
        return [share.detail(int(row), pairs) for row, pairs in zip(rows, explanations, strict=True)]

    def kept(self, version: int, id: str) -> Kept | None:
        """What is kept of an item of this shard, None of another's. Raises NotHeld."""
        share = self.share(version)
        row = share.find(id)
        if row is None:
            return None
        vectors, tokens = share.index.stored(np.array([row]))
        return Kept(id, row, vectors[0], tokens[0], share.detail(row))

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
    ) -> Page:
        """Up to `limit` items of this shard that pass, from row `first` on. Raises QueryError, NotHeld."""
        table = self.share(version).items
        there = own_columns(table)
        for name in columns or ():
            if name not in (*there, "id", "group"):
                raise QueryError(f"no column {name!r}; there are: {', '.join(['id', 'group', *there])}")
        own = there if columns is None else [name for name in columns if name in there]
        passing = mask(table, filters, box)
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
