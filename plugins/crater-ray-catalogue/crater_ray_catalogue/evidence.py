"""What speaks for a pair, put in levels: distance, ratio of diameters, and how alike the views are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crater_ray_catalogue.linkage import Clue
from crater_ray_catalogue.proposals import CandidatePairs

Floats = NDArray[np.float64]
DISTANCES, RATIOS = 28, 11  # levels; those of distance are finer where catalogues that agree lie
STRATA, SCORES = 4, 10  # of distance, within which scores are compared; levels of a score
SPREAD = 0.05  # of the log of a ratio, as catalogues of one body differ (expected; then learnt)


def geometry(pairs: CandidatePairs, reach: float, ratio: float, *, itself: bool = False) -> list[Clue]:
    """Distance and ratio. By chance, distances fill the area evenly: that share is known.

    Two catalogues may disagree by any distance, which is learnt; one with itself (`itself`) does not.
    """
    edges = _rings(reach)
    area = np.diff(edges**2) / reach**2
    spread = reach / 4
    near = np.exp(-(edges[:-1] ** 2) / (2 * spread**2)) - np.exp(-(edges[1:] ** 2) / (2 * spread**2))
    side = np.log(ratio)
    steps = np.linspace(-side, side, RATIOS + 1)
    middle = (steps[1:] + steps[:-1]) / 2
    alike = np.exp(-np.abs(middle) / SPREAD) + 1e-3
    return [
        Clue(
            "distance",
            _levels(pairs.distance, edges),
            near / near.sum(),
            area,
            fixed=True,
            order=-1 if itself else 0,
        ),
        Clue("ratio", _levels(pairs.ratio, steps), alike / alike.sum(), np.full(RATIOS, 1 / RATIOS)),
    ]


def appearance(pairs: CandidatePairs, score: Floats, reach: float) -> Clue:
    """Scores in tenths of the pairs that lie as far apart.

    Views cut from one raster share more ground the nearer they are, whichever crater was meant: among pairs
    as far apart that says nothing, so it is not counted twice.
    """
    stratum = np.minimum((pairs.distance / reach * STRATA).astype(np.int64), STRATA - 1)
    level = np.zeros(len(score), np.int64)
    for one in range(STRATA):
        rows = np.flatnonzero(stratum == one)
        order = np.argsort(np.argsort(score[rows], kind="stable"), kind="stable")
        level[rows] = order * SCORES // max(len(rows), 1)
    rising = np.arange(1.0, SCORES + 1)
    even = np.full(SCORES, 1 / SCORES)
    return Clue("views", level, rising / rising.sum(), even, stratum=stratum, order=1)


def agreement(pairs: CandidatePairs, score: Floats, probability: Floats, reach: float) -> float:
    """By how many standard deviations scores rise with what geometry says of pairs that lie as far apart.

    Van Elteren's test (1960): ranks within each level of distance, so that ground which near views share
    does not count. What differs in `probability` there comes from diameters and rivals, which no view knows.
    """
    level = _levels(pairs.distance, _rings(reach))
    rise = variance = 0.0
    for one in np.unique(level):
        rows = np.flatnonzero(level == one)
        ranks = np.argsort(np.argsort(score[rows], kind="stable"), kind="stable").astype(np.float64)
        ranks -= ranks.mean()
        told = probability[rows] - probability[rows].mean()
        rise += float(ranks @ told)
        variance += float((ranks @ ranks) * (told @ told)) / max(len(rows) - 1, 1)
    return rise / variance**0.5 if variance > 0 else 0.0


def _rings(reach: float) -> Floats:
    return np.asarray(reach * np.linspace(0.0, 1.0, DISTANCES + 1) ** 1.5, np.float64)


def _levels(values: Floats, edges: Floats) -> NDArray[np.int64]:
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2).astype(np.int64)
