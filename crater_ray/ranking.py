"""What is done with encoded queries: two stages or the exact scan, and again joined by the first hits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from crater_ray.errors import QueryError
from crater_ray.types import candidates_in

if TYPE_CHECKING:
    from crater_ray.retrieve import Index
    from crater_ray.search.expand import Joined

Array = np.ndarray[Any, Any]


def rank(
    index: Index,
    vectors: Array,
    tokens: Array,
    *,
    mode: str,
    candidates: int | None,
    top: int,
    expand: int,
    without: Sequence[Array] | None,
    mask: Array | None,
    joined: Sequence[Joined] | None,
) -> list[tuple[Array, Array]]:
    """As `Index.rank`."""
    try:
        deep = candidates_in(mode, candidates)
    except ValueError as error:
        raise QueryError(str(error)) from None
    if joined is not None or not expand:
        return _ranked(index, vectors, tokens, deep, top, mask, without, joined)
    first = deep if deep is None else max(deep, top, expand)
    answers = _ranked(index, vectors, tokens, first, max(top, expand), mask, without, None)
    hits = [rows[:expand] for rows, _ in answers]
    for count in {len(rows) for rows in hits} - {0}:  # of equal counts together: the same shapes
        places = [place for place, rows in enumerate(hits) if len(rows) == count]
        again = _ranked(
            index,
            vectors[places],
            tokens[places],
            deep,
            top,
            mask,
            None if without is None else [without[place] for place in places],
            [stored(index, hits[place]) for place in places],
        )
        for place, answer in zip(places, again, strict=True):
            answers[place] = answer
    return [(rows[:top], scores[:top]) for rows, scores in answers]


def stored(index: Index, rows: Array) -> Joined:
    """Rows of the index, to join a query."""
    from crater_ray.search.expand import Joined

    vectors, tokens = index.stored(rows)
    return Joined(rows, vectors, tokens)


def handed(
    index: Index,
    vectors: Array,
    tokens: Array,
    count: int,
    mask: Array | None = None,
    without: Sequence[Array] | None = None,
    joined: Sequence[Joined] | None = None,
) -> tuple[Array, Array, Array]:
    """The `count` candidates of each query: rows or -1 (B, S), scores (B, S) of stage one, of stage two."""
    if without is None and joined is None:
        rows, firsts = index.shortlist(vectors, count, mask)
        return rows, firsts, index.rerank(tokens, rows)
    gone = (
        [np.empty(0, np.int64)] * len(vectors) if without is None else [np.asarray(rows) for rows in without]
    )
    hits = [] if joined is None else joined
    asked = _together(vectors, [one.vectors for one in hits])
    apart = [np.union1d(rows, hits[at].rows) if hits else rows for at, rows in enumerate(gone)]
    found, values = index.shortlist(asked, count + max(map(len, apart), default=0), mask)
    rows, firsts = (
        np.full((len(asked), count), -1, np.int64),
        np.full((len(asked), count), -np.inf, np.float32),
    )
    for at, (own, first) in enumerate(zip(found, values, strict=True)):
        there = (own >= 0) & ~np.isin(own, apart[at])
        own, first = own[there], first[there]
        if hits:
            mine = hits[at].rows[hits[at].own()]
            own, first = np.r_[own, mine], np.r_[first, _alone_in_one(index, vectors[at], hits[at])]
        order = np.argsort(-first, kind="stable")[:count]
        rows[at, : len(order)], firsts[at, : len(order)] = own[order], first[order]
    scores = index.rerank(_together(tokens, [one.tokens for one in hits]), rows)
    for at, one in enumerate(hits):
        for row, score in zip(one.rows[one.own()], _alone_in_two(index, tokens[at], one), strict=True):
            scores[at, rows[at] == row] = score
    return rows, firsts, scores


def _ranked(
    index: Index,
    vectors: Array,
    tokens: Array,
    candidates: int | None,
    top: int,
    mask: Array | None,
    without: Sequence[Array] | None,
    joined: Sequence[Joined] | None,
) -> list[tuple[Array, Array]]:
    """`candidates`: None scores every row."""
    from crater_ray.search.stages import ranked

    id_ranks = index.snapshot.id_ranks
    answers: list[tuple[Array, Array]] = []
    if candidates is None:
        hits = [] if joined is None else joined
        scores = index.exact(_together(tokens, [one.tokens for one in hits]))
        for at, one in enumerate(hits):
            scores[at, one.rows[one.own()]] = _alone_in_two(index, tokens[at], one)
        if mask is not None:
            scores[:, ~mask] = -np.inf
        for at, rows in enumerate(without or ()):
            scores[at, rows] = -np.inf
        for values in scores:
            order = ranked(values, id_ranks, top)
            answers.append((order, values[order]))
        return answers
    rows, _, scores = handed(index, vectors, tokens, candidates, mask, without, joined)
    for own, values in zip(rows, scores, strict=True):
        own, values = own[own >= 0], values[own >= 0]
        order = ranked(values, id_ranks[own], top)
        answers.append((own[order], values[order]))
    return answers


def _together(queries: Array, hits: Sequence[Array]) -> Array:
    """(B, Q + E K, D) the rows of each query (B, Q, D) and of all its hits (E, K, D)."""
    from crater_ray.search.expand import joined

    if not hits:
        return queries
    return np.stack([joined(query, rows) for query, rows in zip(queries, hits, strict=True)])


def _alone_in_one(index: Index, vectors: Array, hits: Joined) -> Array:
    """Stage one's score of each hit that is in the index by the query (m, G) and the other hits."""
    from crater_ray.search.expand import joined

    found = [index.first(joined(vectors, hits.vectors, but), hits.rows[but]) for but in hits.own()]
    return np.array(found, np.float32)


def _alone_in_two(index: Index, tokens: Array, hits: Joined) -> Array:
    """Stage two's, by the query's tokens (Q, D) and the other hits'."""
    from crater_ray.search.expand import joined

    own = hits.own()
    if not own:
        return np.empty(0, np.float32)
    asked = np.stack([joined(tokens, hits.tokens, but) for but in own])
    return index.rerank(asked, hits.rows[own][:, None])[:, 0]
