"""Which pairs of entries are one crater: evidence in levels, weighed without labels.

Fellegi and Sunter, A Theory for Record Linkage, JASA 1969: a pair's clues are put in levels, and a level
tells by how much more often it is seen among pairs that are one thing than among pairs by chance. Both shares
are learnt from the pairs themselves by expectation-maximisation. That an entry has one counterpart at most is
what teaches most: its other pairs are then by chance. It enters as a monomer-dimer model, whose marginals
belief propagation finds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from sklearn.isotonic import isotonic_regression

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
TURNS, CLOSE = 100, 1e-3  # of expectation-maximisation, at most; change of a probability at which it ends
MESSAGES = 30  # of belief propagation
FAR = 30.0  # log-odds beyond which nothing changes
WORTH = 0.01  # probability below which a pair is not weighed for the assignment


@dataclass(frozen=True)
class Clue:
    """One kind of evidence. Levels are compared within a stratum, where what else is known is the same."""

    name: str
    level: Ints  # (P,) 0..levels-1
    match: Floats  # (levels,) the shares one expects among matches before any pair is seen
    chance: Floats  # (levels,) the same among pairs by chance
    fixed: bool = False  # chance is known and not learnt, as that of distance is
    stratum: Ints | None = None  # (P,) from 0; None: one for all
    order: int = 0  # 1: a higher level never tells less for a match than a lower one; -1: never more
    weight: float = 20.0  # pairs that the expected shares count for


@dataclass(frozen=True)
class Linkage:
    """What was learnt of P pairs."""

    odds: Floats  # (P,) log-odds of each pair alone, as if its entries had no other
    probability: Floats  # (P,) with all others weighed
    share: float  # of the first entries that have a counterpart
    ratios: Mapping[str, Floats]  # clue -> (strata, levels) log of match over chance


def learn(
    clues: Sequence[Clue], ends: Ints, entries: int, known: Mapping[int, bool] | None = None
) -> Linkage:
    """Odds and probabilities of pairs; ends (P, 2) numbers of their entries, over both catalogues.

    entries: how many could have a counterpart, those of the first catalogue; known: rows of `ends` that are
    said to match or not. Raises ValueError where clues and pairs differ in number.
    """
    if any(len(clue.level) != len(ends) for clue in clues):
        raise ValueError(f"every clue needs a level for each of the {len(ends)} pairs")
    known = known or {}
    rows = np.fromiter(known, np.int64, len(known))
    said = np.fromiter(known.values(), np.float64, len(known))
    odds = np.full(len(ends), -1.0)
    for clue in clues:
        odds += (np.log(clue.match) - np.log(clue.chance))[clue.level]
    odds = _told(odds, rows, said)
    probability = marginals(odds, ends)
    share = 0.5
    ratios: dict[str, Floats] = {}
    for _ in range(TURNS):
        matched = probability.sum()
        share = float(np.clip(matched / max(entries, 1), 0.5 / max(entries, 1), 0.99))
        by_chance = max(float((1 - probability).sum()) / max(entries, 1), 1e-3)  # pairs an entry
        odds = np.full(len(ends), np.log(share / (1 - share)) - np.log(by_chance))
        for clue in clues:
            ratio, at = _ratio(clue, probability)
            ratios[clue.name] = ratio
            odds += ratio[at, clue.level]
        odds = _told(odds, rows, said)
        before, probability = probability, marginals(odds, ends)
        if np.abs(probability - before).max(initial=0.0) < CLOSE:
            break
    return Linkage(odds, probability, share, ratios)


def _told(odds: Floats, rows: Ints, said: Floats) -> Floats:
    odds[rows] = np.where(said > 0.5, FAR, -FAR)
    return odds


def _ratio(clue: Clue, probability: Floats) -> tuple[Floats, Ints]:
    """(strata, levels) log of match over chance, from soft counts and the shares expected; (P,) strata."""
    at = np.zeros(len(clue.level), np.int64) if clue.stratum is None else clue.stratum
    strata, levels = int(at.max(initial=0)) + 1, len(clue.match)
    place = at * levels + clue.level

    def shares(weights: Floats, expected: Floats) -> Floats:
        seen = np.bincount(place, weights, strata * levels).reshape(strata, levels)
        counts = seen + clue.weight * expected
        return np.asarray(counts / counts.sum(1, keepdims=True), np.float64)

    chance = clue.chance[None] if clue.fixed else shares(1 - probability, clue.chance)
    ratio = np.asarray(np.log(shares(probability, clue.match)) - np.log(chance), np.float64)
    if clue.order > 0:
        counts = np.bincount(place, minlength=strata * levels).reshape(strata, levels) + 1e-3
        for row, weights in zip(ratio, counts, strict=True):
            row[:] = isotonic_regression(row, sample_weight=weights)
    elif clue.order < 0:  # levels where nothing is seen hold back what lies behind them
        ratio = np.minimum.accumulate(ratio, 1)
    return ratio, at


def marginals(odds: Floats, ends: Ints) -> Floats:
    """(P,) the probability of each pair when every entry is in one pair at most: exact on trees.

    Weights e^odds of a monomer-dimer model. A message says how free the entry at the other end is.
    """
    weight = np.exp(np.clip(odds, -FAR, FAR))
    nodes = int(ends.max(initial=-1)) + 1
    first, second = ends[:, 0], ends[:, 1]
    to_first, to_second = np.ones(len(ends)), np.ones(len(ends))
    for _ in range(MESSAGES):
        from_second, from_first = weight * to_first, weight * to_second
        total = np.bincount(first, from_second, nodes) + np.bincount(second, from_first, nodes)
        new_second = 1.0 / (1.0 + np.maximum(total[first] - from_second, 0.0))
        new_first = 1.0 / (1.0 + np.maximum(total[second] - from_first, 0.0))
        to_first, to_second = (to_first + new_first) / 2, (to_second + new_second) / 2  # damped: no swinging
    joint = weight * to_first * to_second
    return np.asarray(joint / (1.0 + joint), np.float64)


def assigned(linkage: Linkage, ends: Ints, *, bipartite: bool) -> NDArray[np.bool_]:
    """(P,) the pairs of the likeliest one-to-one assignment.

    Of one catalogue with itself (not bipartite) the pairs are taken best first, each entry once.
    """
    chosen = np.zeros(len(ends), bool)
    worth = np.flatnonzero((linkage.probability >= WORTH) & (linkage.odds > 0))
    if not len(worth):
        return chosen
    if not bipartite:
        taken: set[int] = set()
        for row in worth[np.argsort(-linkage.probability[worth], kind="stable")]:
            one, other = ends[row].tolist()
            if one not in taken and other not in taken:
                taken |= {one, other}
                chosen[row] = True
        return chosen
    _, first = np.unique(ends[worth, 0], return_inverse=True)
    _, second = np.unique(ends[worth, 1], return_inverse=True)
    rows, columns = int(first.max()) + 1, int(second.max()) + 1
    alone = np.arange(rows)  # a column of its own for each first entry: it may stay without
    gain = np.minimum(linkage.odds[worth], FAR)
    cost = coo_array(
        (
            np.concatenate([2 * FAR - gain, np.full(rows, 2 * FAR)]),
            (np.concatenate([first, alone]), np.concatenate([second, columns + alone])),
        ),
        shape=(rows, columns + rows),
    )
    picked: dict[int, Any] = dict(zip(*(a.tolist() for a in _matching(cost)), strict=True))
    chosen[worth[[picked[f] == s for f, s in zip(first.tolist(), second.tolist(), strict=True)]]] = True
    return chosen


def _matching(cost: Any) -> tuple[Any, Any]:
    rows, columns = min_weight_full_bipartite_matching(cost.tocsr())
    return rows, columns
