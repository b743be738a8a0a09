"""Which images make a training batch: subgraphs of overlapping images, drawn from (seed, number) alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crater_ray_supscene.overlap.graph import OverlapGraph

Integers = NDArray[np.int64]
Method = Literal["anchor_expand", "balanced", "uniform"]
Nearest = Callable[[int], Integers]  # other units by falling similarity to a unit

EXPAND_OVERLAP, EXPAND_NEIGHBOURS, EXPAND_HOPS = 0.2, 64, 3
TARGET, TOLERANCE = 0.5, 0.05  # balanced: share of positive pairs
TRIES, STARTS = 20, 4  # balanced: candidates a round, and sets to begin from
POOL_FACTOR = 3  # hard negatives are drawn among so many times as many nearest units
POOL = 512  # balanced: unused images that may be swapped in


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a batch is made."""

    nodes: int = 32  # of a subgraph
    subgraphs: int = 2  # of a batch
    method: Method = "anchor_expand"
    positive: float = 0.25
    samples: int | None = None  # of a scene in an epoch; None: as samples_of says
    hard_negatives: int = 0  # subgraphs after each drawn one, from the units most similar to its unit


class Sampler:
    """Batches of a training set, each a function of seed and step: workers and resumed runs agree."""

    def __init__(self, graph: OverlapGraph, units: Sequence[Integers], how: Sampling, seed: int) -> None:
        """units: the rows of each scene, or of each group where a group is what is drawn."""
        if not units:
            raise ValueError("there is nothing to draw from")
        self._graph, self._units, self._how, self._seed = graph, units, how, seed
        repeats = [how.samples or samples_of(len(unit), how.nodes) for unit in units]
        self._epoch = np.repeat(np.arange(len(units)), repeats)

    @property
    def epoch(self) -> int:
        """Subgraphs of an epoch."""
        return len(self._epoch)

    def batch(self, step: int, nearest: Nearest | None = None) -> Integers:
        """(subgraphs, nodes) rows, padded with -1. Steps count from 0.

        After each subgraph of any unit come `hard_negatives` subgraphs of similar units, drawn among
        three times as many by `nearest`. Where too few are known, any unit is drawn.
        """
        first, hard = step * self._how.subgraphs, self._how.hard_negatives
        units: list[int] = []
        others: list[int] = []
        for number in range(first, first + self._how.subgraphs):
            unit = self._unit(number)
            if nearest is not None and hard:
                if (number - first) % (hard + 1) == 0:
                    near = nearest(unit)[: POOL_FACTOR * hard]
                    others = np.random.default_rng((self._seed, 6, number)).permutation(near).tolist()
                else:
                    unit = next((other for other in others if other not in units), unit)
            units.append(unit)
        return np.stack([self._subgraph(unit, first + at) for at, unit in enumerate(units)])

    def _unit(self, number: int) -> int:
        """What the subgraph of that number is drawn from."""
        round_, place = divmod(number, self.epoch)
        return int(np.random.default_rng((self._seed, 1, round_)).permutation(self._epoch)[place])

    def _subgraph(self, unit: int, number: int) -> Integers:
        """(nodes,) rows, padded with -1."""
        rows = self._drawn(self._units[unit], np.random.default_rng((self._seed, 2, number)))
        padded = np.full(self._how.nodes, -1, np.int64)
        padded[: len(rows)] = rows
        return padded

    def _drawn(self, members: Integers, random: np.random.Generator) -> Integers:
        if len(members) <= self._how.nodes:
            return members
        if self._how.method == "uniform":
            return random.choice(members, self._how.nodes, replace=False)
        if self._how.method == "balanced":
            return balanced(self._graph, members, self._how.nodes, random, self._how.positive)
        return anchor_expand(self._graph, members, self._how.nodes, random)


def samples_of(images: int, nodes: int) -> int:
    """Subgraphs of a scene in an epoch: one where it fits whole, else 1.5 sqrt(N / n), from 1 to 8."""
    return 1 if images <= nodes else int(np.clip(math.ceil(1.5 * math.sqrt(images / nodes)), 1, 8))


def anchor_expand(
    graph: OverlapGraph, members: Integers, nodes: int, random: np.random.Generator
) -> Integers:
    """(nodes,) of members: a random anchor, its neighbours, theirs and theirs; others fill up; shuffled."""
    inside = set(members.tolist())
    anchor = int(random.choice(members))
    chosen, seen, frontier = [anchor], {anchor}, [anchor]
    for _ in range(EXPAND_HOPS):
        reached: list[int] = []
        for node in frontier:
            near = graph.neighbours(node, EXPAND_OVERLAP)
            if len(near) > EXPAND_NEIGHBOURS:
                near = random.choice(near, EXPAND_NEIGHBOURS, replace=False)
            for other in random.permutation(near).tolist():
                if other in inside and other not in seen and len(chosen) < nodes:
                    seen.add(other)
                    chosen.append(other)
                    reached.append(other)
        frontier = reached
        if len(chosen) == nodes or not frontier:
            break
    if len(chosen) < nodes:
        rest = members[~np.isin(members, np.array(chosen))]
        chosen += random.choice(rest, nodes - len(chosen), replace=False).tolist()
    return random.permutation(np.array(chosen, np.int64))


def balanced(
    graph: OverlapGraph, members: Integers, nodes: int, random: np.random.Generator, positive: float = 0.25
) -> Integers:
    """(nodes,) of members whose share of positive pairs is within 0.05 of a half, or as near as was found.

    A random set is swapped towards it, best swap by best swap. Where no swap helps any more and the share is
    still beyond, up to three sets more begin in the neighbourhood of an image each, where a sparse graph is
    densest.
    """
    size = min(len(members), nodes + POOL)
    best, nearest = members[:nodes], math.inf
    for start in range(STARTS):
        near = anchor_expand(graph, members, size, random) if start else random.permutation(members)
        found, away = _swapped(graph, near[:size], nodes, random, positive)
        if away < nearest:
            best, nearest = found, away
        if nearest <= TOLERANCE:
            break
    return best


def _swapped(
    graph: OverlapGraph, pool: Integers, nodes: int, random: np.random.Generator, positive: float
) -> tuple[Integers, float]:
    """(nodes,) of a pool, and how far from a half their share of positive pairs is, when no swap helps.

    A round tries 20 unused images in every place, and all of them where none of the 20 helps: one unlucky
    draw ends nothing. A swap changes one row of the pairs alone, so a round costs (nodes x tried) additions.
    """
    related = graph.block(pool) >= positive
    np.fill_diagonal(related, False)
    places, unused = np.arange(nodes), np.arange(nodes, len(pool))
    every = nodes * (nodes - 1) / 2
    degree = related[:, places].sum(1)  # of every image of the pool, towards the chosen
    pairs = int(degree[places].sum()) // 2
    tries = TRIES
    while abs(pairs / every - TARGET) > TOLERANCE and len(unused):
        tried = random.choice(unused, min(tries, len(unused)), replace=False)
        change = degree[tried][None] - related[np.ix_(places, tried)] - degree[places][:, None]
        away = np.abs(pairs + change - TARGET * every)
        place, at = np.unravel_index(int(away.argmin()), away.shape)
        if away[place, at] >= abs(pairs - TARGET * every):
            if len(tried) == len(unused):
                break
            tries = len(unused)
            continue
        tries = TRIES
        out, into = places[place], tried[at]
        pairs += int(change[place, at])
        degree += related[:, into].astype(degree.dtype) - related[:, out]
        places[place] = into
        unused[unused == into] = out
    return pool[places], abs(pairs / every - TARGET)
