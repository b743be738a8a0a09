"""A filter over an index that does not compare all: n answers where n rows pass, and the right ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest

from crater_ray.search import filtered
from crater_ray.search.filtered import lists_of
from crater_ray.search.nprobe import nearest, tune
from crater_ray.search.shortlist import Shortlist

N, DIM, PLACES = 6000, 24, 60
ASKED = 20


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    faiss.omp_set_num_threads(1)


@pytest.fixture(params=["few are compared", "lists are looked into"])
def road(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two ways an IVF index is filtered, whatever is the quicker."""
    free = 10**9 if request.param == "few are compared" else 0
    monkeypatch.setattr(filtered, "CALLED", free)
    monkeypatch.setattr(filtered, "ASKED", 0)
    return str(request.param)


def clustered(m: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (N, m, DIM) around some places, and the place (N,) of each row's."""
    random = np.random.default_rng([seed, 1])
    places = random.standard_normal((PLACES, DIM))
    of = random.integers(0, PLACES, N)
    rows = places[of][:, None] + 0.4 * random.standard_normal((N, m, DIM))
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32), of


def slow(queries: np.ndarray, vectors: np.ndarray, mask: np.ndarray, s: int) -> list[list[int]]:
    scores = np.einsum("bmd,nkd->bnmk", queries, vectors).max((2, 3))
    scores[:, ~mask] = -np.inf
    return [order[: min(s, int(mask.sum()))].tolist() for order in np.argsort(-scores, 1, kind="stable")]


def recall(rows: np.ndarray, truth: list[list[int]]) -> float:
    shares = [len(set(got.tolist()) & set(best)) / len(best) for got, best in zip(rows, truth, strict=True)]
    return float(np.mean(shares))


def chance(share: float) -> np.ndarray:
    mask = np.zeros(N, np.bool_)
    mask[np.random.default_rng(7).permutation(N)[: max(1, round(share * N))]] = True
    return mask


MASKS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "half": lambda of, own: chance(0.5),
    "10 %": lambda of, own: chance(0.1),
    "1 %": lambda of, own: chance(0.01),
    ".1 %": lambda of, own: chance(0.001),
    "one row": lambda of, own: chance(0),
    "one place, far from most": lambda of, own: of == 3,
    "all but the queries' own places": lambda of, own: ~np.isin(of, of[own]),
    "a fifth of the places": lambda of, own: of % 5 == 0,
}


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("what", MASKS)
def test_as_many_as_pass_are_found_and_they_are_the_right_ones(road: str, what: str, m: int) -> None:
    vectors, of = clustered(m)
    own = np.arange(0, 40)
    mask = MASKS[what](of, own[:8])
    shortlist = Shortlist.build(vectors, "IVF128,Flat")
    asked = np.arange(100, 200)
    told = tune(shortlist, vectors[asked], asked, nearest(vectors[asked], asked, [(0, vectors)]))
    assert told is not None
    assert told.nprobe < 40  # so that there is something to miss
    rows, scores = shortlist.search(vectors[own], ASKED, mask)
    assert ((rows >= 0).sum(1) == min(ASKED, mask.sum())).all()
    assert mask[rows[rows >= 0]].all()
    assert all(len(set(got)) == len(got) for got in (line[line >= 0].tolist() for line in rows))
    assert (np.diff(np.where(rows < 0, -9, scores), axis=1) <= 0).all()
    assert recall(rows, slow(vectors[own], vectors, mask, ASKED)) >= 0.98
    alone, _ = shortlist.search(vectors[own[:1]], ASKED, mask)
    assert np.array_equal(alone[0], rows[0])


@pytest.mark.parametrize(
    "factory", ["IVF64,SQ8", "PCA20,IVF64,SQ8", "IVF64,SQ8,RFlat", "HNSW8", "PCA20,HNSW8"]
)
@pytest.mark.parametrize("what", ["half", "10 %", ".1 %", "one place, far from most"])
def test_every_kind_of_index_finds_as_many_as_pass(road: str, factory: str, what: str) -> None:
    vectors, of = clustered()
    mask = MASKS[what](of, np.arange(1))
    shortlist = Shortlist.build(vectors, factory)
    rows, _ = shortlist.search(vectors[:20], ASKED, mask)
    assert ((rows >= 0).sum(1) == min(ASKED, mask.sum())).all()
    assert mask[rows[rows >= 0]].all()
    coarse = "PCA" in factory  # which no filter makes finer
    assert recall(rows, slow(vectors[:20], vectors, mask, ASKED)) >= (0.6 if coarse else 0.95)


def test_no_row_passes(road: str) -> None:
    vectors, _ = clustered()
    shortlist = Shortlist.build(vectors, "IVF64,SQ8")
    rows, scores = shortlist.search(vectors[:3], ASKED, np.zeros(N, np.bool_))
    assert (rows == -1).all()
    assert (scores == -np.inf).all()


@pytest.mark.parametrize("factory", ["IVF128,Flat", "HNSW4"])
def test_without_a_filter_lists_that_hold_too_few_do_not_cut_an_answer(factory: str) -> None:
    vectors, _ = clustered()
    shortlist = Shortlist.build(vectors, factory)
    if shortlist.nlist:
        shortlist.nprobe = 1
    for asked in (150, 1000, N):
        rows, _ = shortlist.search(vectors[:10], asked)
        assert (rows >= 0).all()
        assert recall(rows, slow(vectors[:10], vectors, np.ones(N, np.bool_), asked)) >= 0.95
    if shortlist.nlist:  # what is measured is what was set
        rows, _ = shortlist.search(vectors[:10], 150, widen=False)
        assert (rows[:, -1] < 0).any()


@pytest.mark.parametrize("factory", ["IVF64,SQ8", "IVF64,Flat", "PCA20,IVF64,SQ8"])
def test_lists_are_read_as_faiss_reads_them(factory: str, tmp_path: Path) -> None:
    vectors, _ = clustered()
    built = Shortlist.build(vectors, factory)
    built.save(tmp_path / "shortlist.faiss")
    rows = np.random.default_rng(0).integers(0, N, 200)
    for shortlist in (built, Shortlist.load(tmp_path / "shortlist.faiss")):
        lists = lists_of(shortlist.index)
        assert lists is not None
        ivf = faiss.extract_index_ivf(faiss.downcast_index(shortlist.index))
        ivf.make_direct_map(True)
        np.testing.assert_allclose(lists.decoded(rows), ivf.reconstruct_batch(rows), atol=1e-6)
        assert np.array_equal(lists.passing(None), np.bincount(lists.list_of, minlength=lists.count))
        for share in (0.1, 0.9):
            mask = chance(share)
            assert np.array_equal(
                lists.passing(mask), np.bincount(lists.list_of[mask], minlength=lists.count)
            )
        found, scores = shortlist.search(vectors[:1], 5, chance(0.5))
        np.testing.assert_allclose(shortlist.score(vectors[0], found[0]), scores[0], atol=1e-5)


def test_vectors_added_after_a_filtered_search_are_found() -> None:
    vectors, _ = clustered()
    shortlist = Shortlist.learn(vectors, "IVF16,SQ8")
    shortlist.add(vectors[:3000])
    shortlist.search(vectors[:1], 3, np.arange(3000) < 10)
    shortlist.add(vectors[3000:])
    rows, _ = shortlist.search(vectors[5000:5001], 1, np.arange(N) >= 4990)
    assert rows[0, 0] == 5000
