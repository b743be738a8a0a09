"""An image put on the ground: candidates ask the index, two craters make a transform, others confirm it.

Appearance proposes (a window about each candidate, at each rotation), geometry follows up (a second
candidate where the catalogue has one, then all others), a robust fit places the image, and appearance
judges: windows cut where the catalogue's entries would be, north up, are asked again. So many of them right
by chance is what `chance` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from crater_ray_catalogue import MatchOptions
from crater_ray_catalogue.candidates import Detections
from crater_ray_catalogue.constellations import Guess, Seed, distinct, follow
from crater_ray_catalogue.ground import Ground
from crater_ray_catalogue.registration import Placed, Ties, in_view, register
from crater_ray_catalogue.scene import Scene

Ask = Callable[[float, float, float, float], list[str]]
TOGETHER = 4  # candidates asked before what they say is followed up
SEEDS = 5  # answers of a window that are followed up
RANK = 10  # among so many answers a confirmed entry is, of a large index
COMMON = 3.0  # times as often as evenly a wrong entry is answered: some look like many
TRIES = 3  # guesses judged after each round
AGREEING = 4  # craters of a guess that is judged
JUDGED, HOPELESS = 12, 4  # entries asked to judge a guess; given up where none of so many is known
HELD = 0.75  # of a window, that the image must hold


@dataclass(frozen=True, slots=True)
class Judged:
    """An entry asked for where a transform puts it. rank None: not among the answers that count."""

    entry: int
    x: float
    y: float
    rank: int | None


@dataclass(frozen=True)
class Outcome:
    """placed None: refused. Then the rest tells of the best guess, if there was one."""

    placed: Placed | None
    ties: Ties | None
    judged: Sequence[Judged]
    chance: float  # expected number of false matches as good as this
    asked: int  # candidates
    tried: int  # transforms judged


def match(
    scene: Scene,
    detections: Detections,
    ground: Ground,
    ask: Ask,
    options: MatchOptions,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome:
    """Where the scene lies, or that it could not be told.

    ask(x, y, width, angle) -> groups, the likest first.
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
    guesses: list[Guess] = []
    judged_before: list[Guess] = []
    best = Outcome(None, None, (), np.inf, 0, 0)
    most = TRIES * -(
        -len(shown) // TOGETHER
    )  # transforms that are judged: a match must stand out among so many
    for start in range(0, len(shown), TOGETHER):
        some = shown[start : start + TOGETHER]
        for seed in seeds(some, detections, angles, rows, ask, options):
            guess = follow(seed, detections, ground, options.scale)
            if guess is not None and guess.agreeing >= AGREEING:
                guesses.append(guess)
        progress(start + len(some), len(shown))
        fresh = [
            guess
            for guess in distinct(guesses, ground, detections, TRIES + len(judged_before))
            if guess not in judged_before
        ]
        for guess in fresh[:TRIES]:
            judged_before.append(guess)
            outcome = judge(guess, scene, detections, ground, ask, options, most)
            if outcome is None:
                continue
            outcome = _told(outcome, start + len(some), len(judged_before))
            if outcome.chance <= options.max_false_alarm:
                progress(len(shown), len(shown))
                return outcome
            best = min(best, outcome, key=lambda one: one.chance)
    return Outcome(None, best.ties, best.judged, best.chance, len(shown), len(judged_before))


def turns(options: MatchOptions) -> list[float]:
    """Angles at which windows are cut: where north may be, degrees clockwise from the image's up."""
    step = 360.0 / options.rotations
    if options.north_tolerance is None:
        return [number * step for number in range(options.rotations)]
    low, high = options.north_tolerance  # where the image's up points, clockwise from north
    count = max(1, round(((high - low) % 360.0 or 360.0) / step) + 1)
    return [-(low + share * ((high - low) % 360.0)) for share in np.linspace(0, 1, count)]


def seeds(
    some: Sequence[int],
    detections: Detections,
    angles: Sequence[float],
    rows: dict[str, int],
    ask: Ask,
    options: MatchOptions,
) -> Iterator[Seed]:
    """What the windows of some candidates look like."""
    for number in some:
        x, y, width = (float(values[number]) for values in (detections.x, detections.y, detections.diameter))
        for angle in angles:
            for group in ask(x, y, options.width * width, angle)[:SEEDS]:
                if group in rows:
                    yield Seed(number, rows[group], angle)


def judge(
    guess: Guess,
    scene: Scene,
    detections: Detections,
    ground: Ground,
    ask: Ask,
    options: MatchOptions,
    most: int,
) -> Outcome | None:
    """A guess fitted, and its entries in view asked for; None where the fit finds too few craters."""
    size = scene.width, scene.height
    fitted = register(guess, detections, ground, size, options.pixels)
    if fitted is None:
        return None
    placed, ties = fitted
    told = confirmations(placed, scene, ground, ask, options, without=guess.seed.entry)
    share = min(0.5, COMMON * counted(len(ground)) / len(ground))
    right = sum(one.rank is not None for one in told)
    chance = most * float(binom.sf(right - 1, len(told), share)) if told else np.inf
    return Outcome(placed, ties, told, chance, 0, 0)


def confirmations(
    placed: Placed, scene: Scene, ground: Ground, ask: Ask, options: MatchOptions, without: int | None = None
) -> list[Judged]:
    """The widest entries in view, asked for one by one where they would be, north up."""
    entries, xs, ys = in_view(placed, ground, (scene.width, scene.height), options.pixels)
    told: list[Judged] = []
    for row in np.argsort(-ground.diameter[entries], kind="stable").tolist():
        entry, x, y = int(entries[row]), float(xs[row]), float(ys[row])
        width = options.width * float(ground.diameter[entry]) / placed.scale
        if entry == without or scene.inside(x, y, width) < HELD:
            continue
        answers = ask(x, y, width, -placed.rotation)[: counted(len(ground))]
        group = ground.entries.ids[entry]
        told.append(Judged(entry, x, y, answers.index(group) + 1 if group in answers else None))
        if len(told) == JUDGED or (len(told) == HOPELESS and all(one.rank is None for one in told)):
            break
    return told


def counted(entries: int) -> int:
    """How many answers count: a five-hundredth of a small index, ten of a large one."""
    return int(np.clip(round(entries / 500), 1, RANK))


def _told(outcome: Outcome, asked: int, tried: int) -> Outcome:
    return Outcome(outcome.placed, outcome.ties, outcome.judged, outcome.chance, asked, tried)
