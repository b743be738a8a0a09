"""From one crater that looks like an entry to a transform that puts the whole image on the ground.

An image point w = x - iy (y down) lies at a w + b on a plane: |a| kilometres a pixel, and -arg a is where
the image's up points, clockwise from north.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from crater_ray_catalogue.candidates import Detections
from crater_ray_catalogue.ground import Complex, Ground

NEAR, RATIO = 0.25, 1.35  # an inlier's distance in diameters and its ratio of diameters, at most
TURN, GROWTH = np.radians(24.0), np.log(1.4)  # between what one crater says and what two say, at most
COUNTED, SECONDS = 60, 30  # candidates that may agree; that may be the second crater, the strongest
WIDE = 5  # entries that each second one may be


@dataclass(frozen=True, slots=True)
class Correspondence:
    """One candidate that looked like one entry, turned by an angle."""

    candidate: int
    entry: int
    angle: float  # degrees: where the window's up pointed, clockwise from the image's


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A transform on the plane that touches at the entry `seed.entry`, and the craters that agree."""

    correspondence: Correspondence
    a: complex
    b: complex
    agreeing: int  # craters, one-to-one
    chance: float  # log of the probability that so many agree by chance


def follow(
    correspondence: Correspondence,
    detections: Detections,
    ground: Ground,
    scale: tuple[float, float] | None = None,
) -> Hypothesis | None:
    """The best transform that this candidate, this entry and a second crater give; None without a second.

    scale: kilometres a pixel that are possible.
    """
    w = detections.x - 1j * detections.y
    one, width = correspondence.candidate, float(detections.diameter[correspondence.candidate])
    rough = ground.diameter[correspondence.entry] / width
    if scale is not None and not (scale[0] / 1.2 <= rough <= scale[1] * 1.2):
        return None
    some = np.arange(min(COUNTED, len(detections)))
    away, widths = (w - w[one])[some], detections.diameter[some]
    a = rough * np.exp(1j * np.radians(correspondence.angle))
    reach = (
        np.exp(GROWTH) * rough * float(np.abs(away).max(initial=0.0)) + ground.diameter[correspondence.entry]
    )
    rows, place = ground.about(correspondence.entry, reach)
    sizes = ground.diameter[rows]
    candidate, entry, off = _supposed(a, away, widths, place, sizes, (width + widths) / 2)
    best = _nearest_few(candidate, off)
    many = place[entry[best]] / away[candidate[best]]
    if scale is not None:
        many = many[(np.abs(many) >= scale[0]) & (np.abs(many) <= scale[1])]
    if not len(many):
        return None
    agreeing = _agreeing(
        many, away[candidate], widths[candidate], place[entry], sizes[entry], candidate, entry
    )
    first = int(np.argmax(agreeing))
    share = _by_chance(abs(many[first]), widths, sizes, reach)
    chance = float(binom.logsf(agreeing[first] - 3, max(len(some) - 2, 1), share))  # two made the transform
    a = complex(many[first])
    return Hypothesis(correspondence, a, -a * complex(w[one]), int(agreeing[first]), chance)


def _supposed(
    a: complex,
    away: Complex,
    widths: NDArray[np.float64],
    place: Complex,
    sizes: NDArray[np.float64],
    apart: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Candidates and entries that may be one crater, as far as the first crater can say, and how far off that
    is.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.log(place[None, :] / (a * away)[:, None])  # growth + i turn
        like = np.abs(np.log(sizes[None, :] / (abs(a) * widths)[:, None]))
    fits = (np.abs(away) >= apart)[:, None] & (like < np.log(RATIO) + GROWTH)
    fits &= (np.abs(change.imag) < TURN) & (np.abs(change.real) < GROWTH)
    candidate, entry = np.nonzero(fits)
    return candidate, entry, np.abs(change[candidate, entry])


def _nearest_few(candidate: NDArray[np.int64], off: NDArray[np.float64]) -> NDArray[np.int64]:
    """Pairs whose second crater makes a transform: of the strongest candidates, the nearest to what is
    expected.
    """
    order = np.lexsort((off, candidate))
    starts = np.searchsorted(candidate[order], candidate[order])
    keep = (np.arange(len(order)) - starts < WIDE) & (candidate[order] < SECONDS)
    return np.asarray(order[keep], np.int64)


def _agreeing(
    many: Complex,
    away: Complex,
    widths: NDArray[np.float64],
    place: Complex,
    sizes: NDArray[np.float64],
    candidate: NDArray[np.int64],
    entry: NDArray[np.int64],
) -> NDArray[np.int64]:
    """(K,) craters that agree with each transform, one-to-one and the first one with them.

    All else is of P pairs.
    """
    off = np.abs(many[:, None] * away - place) <= NEAR * sizes
    off &= np.abs(np.log(np.abs(many))[:, None] + np.log(widths / sizes)) <= np.log(RATIO)
    counts = []
    for ends in (candidate, entry):
        order = np.argsort(ends, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(ends[order]) > 0])
        counts.append(np.logical_or.reduceat(off[:, order], starts, axis=1).sum(1))
    return np.asarray(1 + np.minimum(*counts), np.int64)


def _by_chance(scale: float, widths: NDArray[np.float64], sizes: NDArray[np.float64], reach: float) -> float:
    """The probability that a candidate put anywhere within reach agrees with some entry."""
    like = np.abs(np.log(scale * widths[:, None] / sizes)) <= np.log(RATIO)
    covered = (like * (NEAR * sizes) ** 2).sum(1) / reach**2
    return float(np.clip(covered, 1e-4, 0.5).mean())


def distinct(
    hypotheses: Sequence[Hypothesis], ground: Ground, detections: Detections, most: int
) -> list[Hypothesis]:
    """The likeliest first, those that say the same place once."""
    kept: list[Hypothesis] = []
    spots: list[tuple[NDArray[np.float64], float, float]] = []
    middle = complex(np.mean(detections.x), -np.mean(detections.y))
    for hypothesis in sorted(hypotheses, key=lambda one: (one.chance, -one.agreeing)):
        spot = ground.spots[hypothesis.correspondence.entry]
        told = spot, abs(hypothesis.a), float(np.angle(hypothesis.a))
        size = abs(hypothesis.a * middle) / ground.radius + 1e-3
        same = any(
            np.linalg.norm(spot - other) < 3 * size
            and abs(np.log(told[1] / scale)) < 0.1
            and abs(np.angle(np.exp(1j * (told[2] - turn)))) < 0.15
            for other, scale, turn in spots
        )
        if not same:
            kept.append(hypothesis)
            spots.append(told)
        if len(kept) == most:
            break
    return kept
