"""The rule that chooses the shortlist index, and its tuned nprobe: the recall kept is what is found."""

from __future__ import annotations

import numpy as np
import pytest

from crater_ray.search import shortlist
from crater_ray.search.nprobe import FIRST, TARGET, held_out, nearest, recall, tune
from crater_ray.search.shortlist import Shortlist, learns
from crater_ray.types import CANDIDATES


def clustered(n: int, m: int = 1, dim: int = 24, seed: int = 0) -> np.ndarray:
    """Unit vectors around 60 places: neither even nor all apart."""
    random = np.random.default_rng([seed, 1])
    places = random.standard_normal((60, dim))
    rows = places[random.integers(0, 60, (n, m))] + 0.8 * random.standard_normal((n, m, dim))
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def slow_nearest(vectors: np.ndarray, own: np.ndarray, first: int) -> np.ndarray:
    scores = np.einsum("bmd,nkd->bnmk", vectors[own].astype(np.float64), vectors.astype(np.float64))
    scores = scores.max(axis=(2, 3))
    scores[np.arange(len(own)), own] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :first]


def blocks(vectors: np.ndarray, size: int) -> list[tuple[int, np.ndarray]]:
    return [(first, vectors[first : first + size]) for first in range(0, len(vectors), size)]


@pytest.mark.parametrize(
    ("vectors", "factory"),
    [
        (0, "Flat"),
        (shortlist.FEW - 1, "Flat"),
        (shortlist.FEW, "IVF1024,SQ8"),
        (10**5, "IVF1024,SQ8"),
        (10**6, "IVF4096,SQ8"),
        (10**7, "IVF16384,SQ8"),
    ],
)
def test_auto_is_flat_below_a_number_of_vectors_and_lists_above(vectors: int, factory: str) -> None:
    assert shortlist.chosen("auto", vectors) == factory
    assert shortlist.chosen("SQ8", vectors) == "SQ8"


def test_what_is_trained_and_from_how_many() -> None:
    assert [learns(factory, 16) for factory in ("Flat", "HNSW8", "SQ8", "IVF4,SQ8", "IVF4,Flat")] == [
        False,
        False,
        True,
        True,
        True,
    ]
    assert shortlist.learns_from("IVF4096,SQ8") == 48 * 4096
    assert shortlist.learns_from("SQ8") == 131_072
    with pytest.raises(ValueError, match="no FAISS index"):
        learns("IVFx", 16)


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("size", [7, 100, 1000])
def test_nearest_is_brute_force_block_by_block(m: int, size: int) -> None:
    vectors, own = clustered(300, m), np.array([0, 3, 140, 299])
    found = nearest(vectors[own], own, blocks(vectors, size))
    assert np.array_equal(found, slow_nearest(vectors, own, FIRST))
    few = nearest(vectors[own[:1]], own[:1], blocks(vectors[:4], 2))
    assert sorted(few[0].tolist()) == [-1] * (FIRST - 3) + [1, 2, 3]


@pytest.mark.parametrize("factory", ["IVF32,SQ8", "IVF32,Flat", "SQ8", "HNSW8"])
@pytest.mark.parametrize("m", [1, 2])
def test_the_recall_that_is_told_is_the_recall(factory: str, m: int) -> None:
    vectors = clustered(3000, m)
    own = held_out(3000, seed=5)
    shortlist = Shortlist.build(vectors, factory)
    told = tune(shortlist, vectors[own], own, slow_nearest(vectors, own, FIRST))
    assert told is not None
    assert (told.k, told.candidates, told.queries, told.nlist) == (FIRST, CANDIDATES, 150, shortlist.nlist)
    hits = 0
    for row in own.tolist():
        rows, _ = shortlist.search(vectors[row : row + 1], CANDIDATES + 1)
        handed = [found for found in rows[0].tolist() if found != row][:CANDIDATES]
        hits += len(set(handed) & set(slow_nearest(vectors, np.array([row]), FIRST)[0].tolist()))
    assert told.recall == pytest.approx(hits / (FIRST * len(own)), abs=6e-5)
    assert told.recall >= TARGET or factory == "HNSW8"  # which has no lists to look into more of
    assert told.nprobe == shortlist.nprobe
    if "IVF" in factory:
        assert 1 <= told.nprobe < 32
        shortlist.nprobe = max(1, told.nprobe // 2)
        assert recall(shortlist, vectors[own], own, slow_nearest(vectors, own, FIRST)) <= told.recall


def test_all_lists_are_looked_into_where_fewer_do_not_do() -> None:
    vectors = clustered(2000)
    shortlist = Shortlist.build(vectors, "IVF16,PQ4x4")  # codes too coarse for any number of lists
    own = held_out(2000, seed=0)
    told = tune(shortlist, vectors[own], own, slow_nearest(vectors, own, FIRST))
    assert told is not None
    assert (told.nprobe, shortlist.nprobe) == (16, 16)
    assert told.recall < TARGET


def test_all_lists_looked_into_rank_as_flat_does() -> None:
    vectors, queries = clustered(2000), clustered(40, seed=2)
    flat_rows, flat_scores = Shortlist.build(vectors).search(queries, 100)
    lists = Shortlist.build(vectors, "IVF16,Flat")
    lists.nprobe = 16
    rows, scores = lists.search(queries, 100)
    assert np.array_equal(rows, flat_rows)
    np.testing.assert_allclose(scores, flat_scores, atol=1e-6)
    coarse = Shortlist.build(vectors, "IVF16,SQ8")
    coarse.nprobe = 16
    rows, scores = coarse.search(queries, 100)
    np.testing.assert_allclose(scores, flat_scores, atol=0.03)
    assert np.mean([len(set(a) & set(b)) for a, b in zip(rows, flat_rows, strict=True)]) > 95


def test_nothing_is_measured_where_nothing_can_be_asked() -> None:
    vectors = clustered(4)
    own = held_out(4, seed=0)
    assert len(own) == 0
    assert tune(Shortlist.build(vectors, "SQ8"), vectors[own], own, np.empty((0, 10), np.int64)) is None
    assert len(held_out(5, 0)) == 1
    assert len(held_out(10**6, 0)) == 256
    assert not np.array_equal(held_out(1000, 0), held_out(1000, 1))


def test_an_index_that_learnt_is_kept_as_bytes_and_fills_to_the_same() -> None:
    vectors = clustered(2000)
    learnt = Shortlist.learn(vectors[:1500], "IVF16,SQ8")
    state = learnt.state()
    assert (len(learnt), state.dtype) == (0, np.uint8)
    one = Shortlist.taught(state, 1)
    one.add(vectors)
    two = Shortlist.taught(state, 1)
    for first in range(0, 2000, 300):
        two.add(vectors[first : first + 300])
    assert np.array_equal(one.state(), two.state())
    with pytest.raises(ValueError, match="images, 1, 24"):
        one.add(clustered(3, m=2))
