"""Probabilities against sums over every one-to-one assignment, what is learnt against the planted."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from crater_ray_catalogue.decide import decide
from crater_ray_catalogue.evidence import agreement, geometry
from crater_ray_catalogue.linkage import Clue, Linkage, assigned, learn, marginals
from crater_ray_catalogue.proposals import CandidatePairs, Places, propose


def every_assignment(ends: np.ndarray) -> list[tuple[int, ...]]:
    """Every set of pairs in which no entry comes twice."""
    sets: list[tuple[int, ...]] = []
    for size in range(len(ends) + 1):
        for some in combinations(range(len(ends)), size):
            nodes = ends[list(some)].ravel().tolist()
            if len(set(nodes)) == len(nodes):
                sets.append(some)
    return sets


@pytest.mark.parametrize(
    "ends", [[(0, 3), (0, 4), (1, 4), (2, 5)], [(0, 1), (1, 2), (2, 3), (2, 4)]], ids=["two", "itself"]
)
def test_probabilities_are_exact_on_trees(ends: list[tuple[int, int]]) -> None:
    ends_ = np.array(ends)
    odds = np.array([1.5, 0.3, -0.4, 2.0])
    sets = every_assignment(ends_)
    weights = np.array([np.exp(sum(odds[row] for row in some)) for some in sets])
    expected = [
        sum(w for w, some in zip(weights, sets, strict=True) if row in some) / weights.sum()
        for row in range(len(ends_))
    ]
    np.testing.assert_allclose(marginals(odds, ends_), expected, atol=1e-6)


def test_the_assignment_is_the_likeliest_of_all() -> None:
    draw = np.random.default_rng(1)
    for _ in range(20):
        ends = np.unique(np.stack([draw.integers(0, 4, 9), draw.integers(4, 8, 9)], 1), axis=0)
        odds = draw.normal(1, 2, len(ends))
        best = max(every_assignment(ends), key=lambda some: sum(odds[row] for row in some))
        linkage = Linkage(odds, np.full(len(odds), 0.5), 0.5, {})
        chosen = assigned(linkage, ends, bipartite=True)
        assert np.flatnonzero(chosen).tolist() == sorted(best)
        itself = assigned(linkage, ends, bipartite=False)
        assert len(set(ends[itself].ravel().tolist())) == 2 * itself.sum()
    assert not assigned(linkage, ends - 0, bipartite=True)[odds < 0].any()


def test_a_clue_must_cover_every_pair() -> None:
    clue = Clue("one", np.zeros(2, np.int64), np.ones(1), np.ones(1))
    with pytest.raises(ValueError, match="each of the 3 pairs"):
        learn([clue], np.zeros((3, 2), np.int64), 1)


def test_what_is_proposed_is_what_a_loop_finds() -> None:
    draw = np.random.default_rng(2)
    first, second = (
        Places(draw.uniform(-80, 80, 60), draw.uniform(178, 182, 60) % 360 - 180, draw.uniform(10, 60, 60))
        for _ in range(2)
    )
    found = propose(first, second, 1737.4, 3.0, 1.3)
    expected = set()
    for i in range(60):
        for j in range(60):
            a, b = np.radians([first.lat[i], first.lon[i]]), np.radians([second.lat[j], second.lon[j]])
            half = np.sin((a - b) / 2) ** 2
            arc = 2 * np.arcsin(np.sqrt(half[0] + np.cos(a[0]) * np.cos(b[0]) * half[1]))
            near = 1737.4 * arc / np.sqrt(first.diameter[i] * second.diameter[j]) <= 3.0
            if near and 1 / 1.3 <= first.diameter[i] / second.diameter[j] <= 1.3:
                expected.add((i, j))
    assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == expected
    itself = propose(first, None, 1737.4, 3.0, 1.3)
    assert (itself.first < itself.second).all()
    assert propose(Places(*np.zeros((3, 0))), second, 1737.4, 3.0, 1.3).first.size == 0


def disagreeing(
    craters: int, draw: np.random.Generator, side: float = 0.7
) -> tuple[CandidatePairs, NDArray[np.int64], NDArray[np.bool_]]:
    """Two catalogues, the second of twice as many and moved by 1 D: pairs, their entries, which are one."""
    n, extra = craters, craters
    lat = np.degrees(np.arcsin(draw.uniform(-side, side, n + extra)))
    lon = draw.uniform(-180 * side, 180 * side, n + extra)
    diameter = 8 * (draw.pareto(2, n + extra) + 1)
    turn, reach = draw.uniform(0, 2 * np.pi, n + extra), np.degrees(diameter / 1737.4)
    other = Places(
        lat + reach * np.sin(turn),
        lon + reach * np.cos(turn) / np.cos(np.radians(lat)),
        diameter * np.exp(draw.normal(0, 0.05, n + extra)),
    )
    pairs = propose(Places(lat[:n], lon[:n], diameter[:n]), other, 1737.4, 2.5, 1.25)
    return pairs, np.stack([pairs.first, pairs.second + n], 1), pairs.first == pairs.second


def test_probabilities_learnt_without_labels_hold() -> None:
    """3,000 craters, the second's moved by 1 D: the sum of probabilities is the number of matches."""
    pairs, ends, same = disagreeing(3000, np.random.default_rng(3))
    linkage = learn(geometry(pairs, 2.5, 1.25), ends, 3000)
    assert linkage.probability.sum() == pytest.approx(same.sum(), rel=0.05)
    at = np.minimum((linkage.probability * 10).astype(int), 9)
    error = sum(
        (at == b).mean() * abs(linkage.probability[at == b].mean() - same[at == b].mean())
        for b in np.unique(at)
    )
    assert error < 0.02


def test_agreement_is_what_shuffling_within_a_ring_says() -> None:
    """Against the spread of the same sum over shuffles of the scores within each ring of distance."""
    draw = np.random.default_rng(5)
    pairs, ends, _ = disagreeing(400, draw)
    probability = learn(geometry(pairs, 2.5, 1.25), ends, 400).probability
    score = draw.normal(0, 1, len(ends)) + probability - 0.3 * pairs.distance
    rings = geometry(pairs, 2.5, 1.25)[0].level

    def summed(scores: NDArray[np.float64]) -> float:
        total = 0.0
        for ring in set(rings.tolist()):
            some = scores[rings == ring]
            ranks = [sum(bool(other < one) for other in some) for one in some]
            total += float(np.dot(ranks, probability[rings == ring]))
        return total

    shuffled = []
    for _ in range(200):
        mixed = score.copy()
        for ring in set(rings.tolist()):
            mixed[rings == ring] = draw.permutation(score[rings == ring])
        shuffled.append(summed(mixed))
    expected = (summed(score) - np.mean(shuffled)) / np.std(shuffled)
    assert agreement(pairs, score, probability, 2.5) == pytest.approx(expected, rel=0.2)


def test_views_are_heard_only_where_they_agree_with_geometry() -> None:
    """Noise changes nothing at all; views that know the crater make the decision better."""
    draw = np.random.default_rng(6)
    pairs, _, same = disagreeing(600, draw, side=0.1)
    how = {"reach": 2.5, "ratio": 1.25, "certain": 0.5}
    exclusive = decide(600, 1200, pairs, None, **how)
    noise = decide(600, 1200, pairs, draw.normal(0, 1, len(same)) - pairs.distance, **how)
    knowing = decide(600, 1200, pairs, draw.normal(0, 1, len(same)) + 2 * same, **how)
    assert (exclusive.by_views, noise.by_views, knowing.by_views) == (False, False, True)
    np.testing.assert_array_equal(noise.linkage.probability, exclusive.linkage.probability)

    def f1(taken: NDArray[np.bool_]) -> float:
        return float(2 * (taken & same).sum() / (taken.sum() + same.sum()))

    assert f1(knowing.same) > f1(exclusive.same) + 0.005
