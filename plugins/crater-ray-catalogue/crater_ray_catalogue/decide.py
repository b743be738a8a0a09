"""Pairs decided: learnt, assigned, and told in words. Arrays in, one row a pair or an entry out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crater_ray_catalogue.entries import Entries
from crater_ray_catalogue.evidence import agreement, appearance, geometry
from crater_ray_catalogue.linkage import FAR, Linkage, assigned, learn
from crater_ray_catalogue.proposals import CandidatePairs

Floats = NDArray[np.float64]
SURE = 4.0  # standard deviations by which views must agree with geometry to be heard
DOUBLES = 0.02  # of a catalogue's entries that it has twice: expected, since few are there to learn from


@dataclass(frozen=True)
class Decided:
    """P pairs with what was found of them."""

    pairs: CandidatePairs
    linkage: Linkage
    same: NDArray[np.bool_]  # one-to-one, probability >= certain
    spare: NDArray[np.bool_]  # the same again: one entry has its counterpart already, the other has none
    double: Floats  # probability of that, where `spare`
    score: Floats | None
    agreement: float | None  # of scores with geometry, in standard deviations; None: no views were asked

    @property
    def by_views(self) -> bool:
        """Whether views were let in: they may say nothing, as where they were cut beside their craters."""
        return self.agreement is not None and self.agreement >= SURE


def decide(
    first: int,
    second: int | None,
    pairs: CandidatePairs,
    score: Floats | None,
    *,
    reach: float,
    ratio: float,
    certain: float,
    known: Mapping[tuple[int, int], bool] | None = None,
) -> Decided:
    """Which pairs are one crater. first, second: how many entries there are; second None: one catalogue.

    score None: geometry alone, as where scores agree with it no better than by chance. known: (row of the
    first, row of the second) -> whether they are one.
    """
    ends = np.stack([pairs.first, pairs.second + (0 if second is None else first)], 1)
    clues = geometry(pairs, reach, ratio, itself=second is None)
    rows = {
        pair: row for row, pair in enumerate(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    }
    said = {rows[pair]: same for pair, same in (known or {}).items() if pair in rows}
    linkage = learn(clues, ends, first, said)
    agrees = None if score is None else agreement(pairs, score, linkage.probability, reach)
    if score is not None and agrees is not None and agrees >= SURE:
        linkage = learn([*clues, appearance(pairs, score, reach)], ends, first, said)
    same = assigned(linkage, ends, bipartite=second is not None) & (linkage.probability >= certain)
    taken = np.zeros(int(ends.max(initial=-1)) + 1, bool)
    taken[ends[same].ravel()] = True
    prior = np.log(DOUBLES / (1 - DOUBLES)) - np.log(linkage.share / (1 - linkage.share))
    double = 1 / (1 + np.exp(-(linkage.odds + prior)))  # the pair alone, judged by what doubles are worth
    spare = ~same & (double >= certain) & (taken[ends].sum(1) == 1)
    return Decided(pairs, linkage, same, spare, double, score, agrees)


def reasons(decided: Decided, rows: NDArray[np.int64]) -> list[str]:
    """A sentence for each of the pairs `rows`: what spoke for or against it."""
    pairs, linkage = decided.pairs, decided.linkage
    rivals = _rivals(decided)
    said = []
    for row in rows.tolist():
        words = [f"{pairs.distance[row]:.2f} D apart", f"diameters 1 : {np.exp(abs(pairs.ratio[row])):.2f}"]
        if decided.score is not None and decided.by_views:
            words.append(f"views {decided.score[row]:+.3f} against their neighbours'")
        if abs(linkage.odds[row]) >= FAR:
            words.append("said by hand")
        count, best = rivals[row]
        rival = f"{count} rival{'s' * (count > 1)}, the best at {best:.2f}"
        words.append(rival if count else "no rival")
        said.append(", ".join(words))
    return said


def _rivals(decided: Decided) -> list[tuple[int, float]]:
    """For each pair, how many others share an entry with it, and the best of their probabilities."""
    pairs, p = decided.pairs, decided.linkage.probability
    told = [(0, 0.0)] * len(p)
    for ends in (pairs.first, pairs.second):
        order = np.lexsort((-p, ends))
        starts = np.flatnonzero(np.r_[True, ends[order][1:] != ends[order][:-1]]) if len(order) else order
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(order)], strict=True):
            some = order[start:stop].tolist()
            for row in some:
                other = some[1] if row == some[0] and len(some) > 1 else some[0]
                count, best = told[row]
                if len(some) > 1:
                    told[row] = (count + len(some) - 1, max(best, float(p[other])))
    return told


def pair_table(decided: Decided, rows: NDArray[np.int64], first: Entries, second: Entries) -> pd.DataFrame:
    """One row a pair: both ids, both places and diameters, probability and reason."""
    pairs, linkage = decided.pairs, decided.linkage
    a, b = pairs.first[rows], pairs.second[rows]
    return pd.DataFrame(
        {
            "first_id": _named(first.names, a),
            "second_id": _named(second.names, b),
            "lat": first.places.lat[a],
            "lon": first.places.lon[a],
            "diameter_km": first.places.diameter[a],
            "second_lat": second.places.lat[b],
            "second_lon": second.places.lon[b],
            "second_diameter_km": second.places.diameter[b],
            "probability": np.round(np.where(decided.same, linkage.probability, decided.double)[rows], 4),
            "reason": reasons(decided, rows),
        }
    )


def left_table(decided: Decided, entries: Entries, sides: Sequence[NDArray[np.int64]]) -> pd.DataFrame:
    """Entries in no pair, each with its likeliest counterpart and why that is none.

    sides: the ends of the pairs that are rows of these entries; both of them for one catalogue with itself.
    """
    p = decided.linkage.probability
    told: set[int] = set()
    best: dict[int, int] = {}
    some = np.zeros(len(entries))
    for ends in sides:
        told |= set(ends[decided.same | decided.spare].tolist())
        some += np.bincount(ends, p, len(entries))
        for row in np.argsort(p, kind="stable").tolist():
            entry = int(ends[row])
            if entry not in best or p[row] >= p[best[entry]]:
                best[entry] = row
    rows = np.array([row for row in range(len(entries)) if row not in told], np.int64)
    near = np.array([best[row] for row in rows.tolist() if row in best], np.int64)
    words = dict(zip(near.tolist(), reasons(decided, near), strict=True))
    reason = [
        f"likeliest at {p[best[row]]:.2f}: {words[best[row]]}" if row in best else "no entry within reach"
        for row in rows.tolist()
    ]
    return pd.DataFrame(
        {
            "id": _named(entries.names, rows),
            "lat": entries.places.lat[rows],
            "lon": entries.places.lon[rows],
            "diameter_km": entries.places.diameter[rows],
            "probability": np.round(np.clip(1 - some[rows], 0, 1), 4),
            "reason": reason,
        }
    )


def _named(names: Sequence[str], rows: NDArray[np.int64]) -> list[str]:
    return [names[row] for row in rows.tolist()]
