"""An image located: candidates query the index, two craters give a transform, the others confirm it.

Hypothesise and verify. A window about each candidate, at each rotation, proposes entries by appearance. A
second candidate that fits makes a hypothesis of each, which a robust fit over all candidates refines.
Verification queries the index again, with windows cut north up where the catalogue's entries would be.
`chance` is the expected number of hypotheses with as many correct answers by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from crater_ray_catalogue import MatchOptions
from crater_ray_catalogue.candidates import Detections
from crater_ray_catalogue.constellations import Correspondence, Hypothesis, distinct, follow
from crater_ray_catalogue.ground import Ground
from crater_ray_catalogue.registration import Georeference, TiePoints, in_view, register
from crater_ray_catalogue.scene import Scene

Ask = Callable[[float, float, float, float], list[str]]
TOGETHER = 4  # candidates queried before their hypotheses are verified
SEEDS = 5  # answers of a window that make hypotheses
RANK = 10  # a correct answer is among so many, in a large index
COMMON = 3.0  # a wrong entry is answered so many times as often as evenly: some resemble many
TRIES = 3  # hypotheses verified after each round
AGREEING = 4  # craters of a hypothesis that is verified
VERIFIED, HOPELESS = 12, 4  # entries queried for a hypothesis; it ends if none of the first four is right
HELD = 0.75  # share of a window that must lie inside the image


@dataclass(frozen=True, slots=True)
class Verification:
    """An entry queried where a transform puts it. rank None: not among the answers that count."""

    entry: int
    x: float
    y: float
    rank: int | None


@dataclass(frozen=True)
class Outcome:
    """placed None: refused. The rest is then of the best hypothesis, if there was one."""

    placed: Georeference | None
    ties: TiePoints | None
    verified: Sequence[Verification]
    chance: float  # expected number of false matches as good as this
    asked: int  # candidates
    tried: int  # hypotheses verified


def match(
    scene: Scene,
    detections: Detections,
    ground: Ground,
    ask: Ask,
    options: MatchOptions,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome:
    """Where the scene lies, if it can be located.

    ask(x, y, width, angle) -> groups by falling similarity.
    """
    rows = {group: row for row, group in enumerate(ground.entries.ids)}
    angles = turns(options)
    shown = [
        number
        for number in range(len(detections))
        if scene.inside(
            detections.x[number], detections.y[number], options.width * detections.diameter[number]
        )
        >= HELD
    ][: max(1, options.windows // len(angles))]
    hypotheses: list[Hypothesis] = []
    tried: list[Hypothesis] = []
    best = Outcome(None, None, (), np.inf, 0, 0)
    most = TRIES * -(
        -len(shown) // TOGETHER
    )  # hypotheses that are verified: a match must stand out among so many
    for start in range(0, len(shown), TOGETHER):
        some = shown[start : start + TOGETHER]
        for correspondence in correspondences(some, detections, angles, rows, ask, options):
            hypothesis = follow(correspondence, detections, ground, options.scale)
            if hypothesis is not None and hypothesis.agreeing >= AGREEING:
                hypotheses.append(hypothesis)
        progress(start + len(some), len(shown))
        fresh = [
            hypothesis
            for hypothesis in distinct(hypotheses, ground, detections, TRIES + len(tried))
            if hypothesis not in tried
        ]
        for hypothesis in fresh[:TRIES]:
            tried.append(hypothesis)
            outcome = verify(hypothesis, scene, detections, ground, ask, options, most)
            if outcome is None:
                continue
            outcome = _counted(outcome, start + len(some), len(tried))
            if outcome.chance <= options.max_false_alarm:
                progress(len(shown), len(shown))
                return outcome
            best = min(best, outcome, key=lambda one: one.chance)
    return Outcome(None, best.ties, best.verified, best.chance, len(shown), len(tried))


def turns(options: MatchOptions) -> list[float]:
    """Angles at which windows are cut: where north may be, degrees clockwise from the image's up."""
    step = 360.0 / options.rotations
    if options.north_tolerance is None:
        return [number * step for number in range(options.rotations)]
    low, high = options.north_tolerance  # where the image's up points, clockwise from north
    count = max(1, round(((high - low) % 360.0 or 360.0) / step) + 1)
    return [-(low + share * ((high - low) % 360.0)) for share in np.linspace(0, 1, count)]


def correspondences(
    some: Sequence[int],
    detections: Detections,
    angles: Sequence[float],
    rows: dict[str, int],
    ask: Ask,
    options: MatchOptions,
) -> Iterator[Correspondence]:
    """The entries that the windows of some candidates resemble."""
    for number in some:
        x, y, width = (float(values[number]) for values in (detections.x, detections.y, detections.diameter))
        for angle in angles:
            for group in ask(x, y, options.width * width, angle)[:SEEDS]:
                if group in rows:
                    yield Correspondence(number, rows[group], angle)


def verify(
    hypothesis: Hypothesis,
    scene: Scene,
    detections: Detections,
    ground: Ground,
    ask: Ask,
    options: MatchOptions,
    most: int,
) -> Outcome | None:
    """Fits a hypothesis and queries its entries in view; None where the fit finds too few craters."""
    size = scene.width, scene.height
    fitted = register(hypothesis, detections, ground, size, options.pixels)
    if fitted is None:
        return None
    placed, ties = fitted
    told = confirmations(placed, scene, ground, ask, options, without=hypothesis.correspondence.entry)
    share = min(0.5, COMMON * counted(len(ground)) / len(ground))
    right = sum(one.rank is not None for one in told)
    chance = most * float(binom.sf(right - 1, len(told), share)) if told else np.inf
    return Outcome(placed, ties, told, chance, 0, 0)


def confirmations(
    placed: Georeference,
    scene: Scene,
    ground: Ground,
    ask: Ask,
    options: MatchOptions,
    without: int | None = None,
) -> list[Verification]:
    """The widest entries in view, queried one by one where they would be, north up."""
    entries, xs, ys = in_view(placed, ground, (scene.width, scene.height), options.pixels)
    told: list[Verification] = []
    for row in np.argsort(-ground.diameter[entries], kind="stable").tolist():
        entry, x, y = int(entries[row]), float(xs[row]), float(ys[row])
        width = options.width * float(ground.diameter[entry]) / placed.scale
        if entry == without or scene.inside(x, y, width) < HELD:
            continue
        answers = ask(x, y, width, -placed.rotation)[: counted(len(ground))]
        group = ground.entries.ids[entry]
        told.append(Verification(entry, x, y, answers.index(group) + 1 if group in answers else None))
        if len(told) == VERIFIED or (len(told) == HOPELESS and all(one.rank is None for one in told)):
            break
    return told


def counted(entries: int) -> int:
    """How many answers count: a five-hundredth of a small index, ten of a large one."""
    return int(np.clip(round(entries / 500), 1, RANK))


def _counted(outcome: Outcome, asked: int, tried: int) -> Outcome:
    return Outcome(outcome.placed, outcome.ties, outcome.verified, outcome.chance, asked, tried)
