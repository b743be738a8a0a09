"""The rows of one opened index, scored: shortlist, rerank, exact, explanations. Encoded queries go in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from crater_ray.search import stages
from crater_ray.search.expand import Joined, joined
from crater_ray.search.kernel import explain
from crater_ray.search.shortlist import Shortlist
from crater_ray.search.whitening import whiten
from crater_ray.types import TokenPair

if TYPE_CHECKING:
    from crater_ray.index.fitted import Arrays
    from crater_ray.request import SearchRequest
    from crater_ray.retrieve import Index

Array = np.ndarray[Any, Any]
BLOCK_ROWS = 4096  # images a block of the exact scan


@dataclass(frozen=True, slots=True)
class Queries:
    """B encoded queries. With `joined`, all have as many hits that joined them."""

    vectors: Array  # (B, m, G)
    tokens: Array  # (B, Q, D)
    without: Sequence[Array] | None = None  # of each query the rows that may not answer it, such as its own
    joined: Sequence[Joined] | None = None
    mask: Array | None = None  # (N,) bool, rows that may answer any of them

    def __len__(self) -> int:
        return len(self.vectors)

    def expanded(self, places: Sequence[int], hits: Sequence[Joined]) -> Queries:
        """The queries at `places`, each joined by its hits."""
        own = None if self.without is None else [self.without[place] for place in places]
        return Queries(self.vectors[list(places)], self.tokens[list(places)], own, hits, self.mask)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The hits of one query, best first."""

    rows: Array  # (n,) int64
    scores: Array  # (n,) float32

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Candidates:
    """S candidates of each of B queries; rows are -1 where there are fewer."""

    rows: Array  # (B, S) int64
    shortlist_scores: Array  # (B, S) float32
    scores: Array  # (B, S) float32, by late interaction; in mode shortlist-only the same ones


@dataclass(frozen=True, slots=True)
class _Segment:
    """One FAISS index of a version."""

    shortlist: Shortlist
    rows: Array  # of the version, for each of its rows; -1: dropped
    present: Array | None  # which were not dropped; None: all of them
    whitening: Arrays | None

    def whitened(self, vectors: Array) -> Array:
        return vectors if self.whitening is None else whiten(vectors, self.whitening)


class Shard:
    """An index, or some segments of it, as it is searched."""

    def __init__(self, index: Index) -> None:
        self.index, self.snapshot = index, index.snapshot
        config = index.config
        self._how: dict[str, Any] = {"k": config.k, "dim": config.dim, "scoring": config.scoring}

    @cached_property
    def segments(self) -> list[_Segment]:
        opened = []
        for segment in self.snapshot.segments:
            rows = self.snapshot.segment_rows(segment)
            whitening = self.snapshot.fitted(segment)
            if segment.file is not None:
                there = rows >= 0
                found = Shortlist.load(segment.file, segment.m)
                opened.append(_Segment(found, rows, None if there.all() else there, whitening))
            else:  # Flat: the rows' own vectors are the index
                kept = rows[rows >= 0]
                vectors = self.snapshot.vectors(kept)
                compared = vectors if whitening is None else whiten(vectors, whitening)
                flat = Shortlist.build(compared, segment.factory, segment.seed)
                opened.append(_Segment(flat, kept, None, whitening))
        return opened

    def warm(self) -> None:
        """Opens what a search reads, so that the first query does not wait for it."""
        _ = self.index.codec, self.snapshot.id_ranks, self.snapshot.groups, self.snapshot.scales
        for segment in self.segments:
            segment.shortlist.warm()

    def stored(self, rows: Array) -> Joined:
        """What is stored of those rows, to join a query."""
        return Joined(rows, *self.index.stored(rows))

    def rank(self, queries: Queries, request: SearchRequest) -> list[Ranking]:
        """The `top` best of each query, ties by id."""
        ids = self.snapshot.id_ranks
        if request.mode == "exact":
            scores = self._every(queries)
            orders = [stages.ranked(values, ids, request.top) for values in scores]
            return [Ranking(order, values[order]) for order, values in zip(orders, scores, strict=True)]
        found = self.candidates(queries, request)
        answers = []
        for rows, values in zip(found.rows, found.scores, strict=True):
            rows, values = rows[rows >= 0], values[rows >= 0]
            order = stages.ranked(values, ids[rows], request.top)
            answers.append(Ranking(rows[order], values[order]))
        return answers

    def candidates(self, queries: Queries, request: SearchRequest) -> Candidates:
        """The shortlist of each query, reranked where the request's mode does.

        A hit that joined a query is scored without itself.
        """
        rows, firsts = self._shortlisted(queries, min(request.shortlisted or 0, len(self.snapshot)))
        if not request.by_tokens:
            return Candidates(rows, firsts, firsts)
        hits = queries.joined or []
        scores = self.rerank(_with_hits(queries.tokens, [one.tokens for one in hits]), rows)
        for at, one in enumerate(hits):
            for row, score in zip(one.rows[one.own()], self._scores_of(one, queries.tokens[at]), strict=True):
                scores[at, rows[at] == row] = score
        return Candidates(rows, firsts, scores)

    def _shortlisted(self, queries: Queries, count: int) -> tuple[Array, Array]:
        """The `count` best rows (B, S) of each query by shortlist vectors, -1 for none, and their scores."""
        if queries.without is None and queries.joined is None:
            return self.shortlist(queries.vectors, count, queries.mask)
        hits = queries.joined or []
        gone = queries.without or [np.empty(0, np.int64)] * len(queries)
        vectors = _with_hits(queries.vectors, [one.vectors for one in hits])
        apart = [
            np.union1d(rows, hits[at].rows) if hits else np.asarray(rows) for at, rows in enumerate(gone)
        ]
        found, values = self.shortlist(vectors, count + max(map(len, apart), default=0), queries.mask)
        rows = np.full((len(queries), count), -1, np.int64)
        firsts = np.full((len(queries), count), -np.inf, np.float32)
        for at, (own, first) in enumerate(zip(found, values, strict=True)):
            there = (own >= 0) & ~np.isin(own, apart[at])
            own, first = own[there], first[there]
            if hits:
                own = np.r_[own, hits[at].rows[hits[at].own()]]
                first = np.r_[first, self._shortlist_scores_of(hits[at], queries.vectors[at])]
            order = np.argsort(-first, kind="stable")[:count]
            rows[at, : len(order)], firsts[at, : len(order)] = own[order], first[order]
        return rows, firsts

    def _every(self, queries: Queries) -> Array:
        """(B, N) scores of every row; -inf for one that may not answer."""
        hits = queries.joined or []
        scores = self.exact(_with_hits(queries.tokens, [one.tokens for one in hits]))
        for at, one in enumerate(hits):
            scores[at, one.rows[one.own()]] = self._scores_of(one, queries.tokens[at])
        if queries.mask is not None:
            scores[:, ~queries.mask] = -np.inf
        for at, rows in enumerate(queries.without or ()):
            scores[at, rows] = -np.inf
        return scores

    def _shortlist_scores_of(self, hits: Joined, vectors: Array) -> Array:
        """(E',) of each hit that is in this index, by the query (m, G) and the other hits."""
        found = [
            self.shortlist_score(joined(vectors, hits.vectors, but), hits.rows[but]) for but in hits.own()
        ]
        return np.array(found, np.float32)

    def _scores_of(self, hits: Joined, tokens: Array) -> Array:
        """(E',) of each hit that is in this index, by the query's tokens (Q, D) and the other hits'."""
        own = hits.own()
        if not own:
            return np.empty(0, np.float32)
        asked = np.stack([joined(tokens, hits.tokens, but) for but in own])
        return self.rerank(asked, hits.rows[own][:, None])[:, 0]

    # scores

    def shortlist(self, vectors: Array, count: int, mask: Array | None = None) -> tuple[Array, Array]:
        """The best rows (B, count) int64 by shortlist vectors, -1 where there are fewer, and their scores.

        Never more columns than there are rows, whatever is asked for.
        """
        found_rows, found_scores = [], []
        for segment in self.segments:
            keep = segment.present
            if mask is not None:  # row -1 reads the last, and is masked
                keep = mask[segment.rows] if keep is None else keep & mask[segment.rows]
            local, scores = segment.shortlist.search(segment.whitened(vectors), count, keep)
            found_rows.append(np.where(local >= 0, segment.rows[np.maximum(local, 0)], -1))
            found_scores.append(np.where(local >= 0, scores, -np.inf))
        if not found_rows:
            return np.empty((len(vectors), 0), np.int64), np.empty((len(vectors), 0), np.float32)
        if len(found_rows) == 1:
            return found_rows[0], found_scores[0]
        all_rows, all_scores = np.concatenate(found_rows, 1), np.concatenate(found_scores, 1)
        order = np.argsort(-all_scores, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(all_rows, order, 1), np.take_along_axis(all_scores, order, 1)

    def shortlist_score(self, vectors: Array, row: int) -> float:
        """Of one row by a query's vectors (m, G), as `shortlist` scores it."""
        best = -np.inf
        for segment in self.segments:
            local = np.flatnonzero(segment.rows == row)
            if len(local):
                score = segment.shortlist.score(segment.whitened(vectors[None])[0], local[:1])
                best = max(best, float(score[0]))
        return best

    def exact(self, tokens: Array) -> Array:
        """(B, N) float32 late-interaction scores of queries (B, Q, D) against every row."""
        blocks = self.snapshot.blocks(BLOCK_ROWS)
        return stages.exact(tokens, blocks, rows=len(self.snapshot), codec=self.index.codec, **self._how)

    def rerank(self, tokens: Array, rows: Array) -> Array:
        """(B, S) float32 late-interaction scores of queries (B, Q, D) by their rows (B, S); -inf where -1."""
        return stages.rerank(tokens, rows, self.snapshot.gather, codec=self.index.codec, **self._how)

    def explain(self, tokens: Array, rows: Array) -> list[tuple[TokenPair, ...]]:
        """For each row, the pairs of tokens whose contributions sum to its score, the largest first.

        Pairs are those of the index config's scoring: none where it compares means of tokens.
        """
        codes, scales = self.snapshot.gather(rows)
        found = explain(tokens, codes, scales, codec=self.index.codec, **self._how)
        return [
            tuple(TokenPair(*pair) for pair in zip(*(array.tolist() for array in one), strict=True))
            for one in found
        ]


def _with_hits(queries: Array, hits: Sequence[Array]) -> Array:
    """(B, Q + E K, D) the rows of each query (B, Q, D) and of all its hits (E, K, D)."""
    if not hits:
        return queries
    return np.stack([joined(query, rows) for query, rows in zip(queries, hits, strict=True)])
