"""The shortlist: where FAISS is exhaustive, the shortlist is what brute force gives."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from crater_ray.errors import DamagedIndex
from crater_ray.search.shortlist import Shortlist

FACTORIES = ["Flat", "SQ8", "IVF8,Flat", "HNSW16", "PCA8,Flat", "IVF8,SQ8,RFlat", "OPQ4,IVF8,Flat"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    faiss.omp_set_num_threads(1)


def unit(*shape: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng([seed, *shape]).normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def slow_scores(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(B, N): of every pair of vectors, the best."""
    return np.array(
        [[max(float(a @ b) for a in query for b in image) for image in vectors] for query in queries]
    )


@pytest.mark.parametrize(("m", "asked"), [(1, 1), (3, 1), (1, 2), (3, 2)])
@pytest.mark.parametrize("s", [1, 10, 80, 10**12])
@pytest.mark.parametrize("masked", [False, True])
def test_flat_is_brute_force(m: int, asked: int, s: int, masked: bool) -> None:
    vectors, queries = unit(80, m, 16), unit(4, asked, 16, seed=1)
    mask = np.random.default_rng(2).random(80) < 0.4 if masked else None
    rows, scores = Shortlist.build(vectors).search(queries, s, mask)
    assert rows.shape == scores.shape == (4, min(s, 80))
    assert rows.dtype == np.int64
    expected = slow_scores(queries, vectors)
    if mask is not None:
        expected[:, ~mask] = -np.inf
    there = min(s, 80 if mask is None else int(mask.sum()))
    best = np.argsort(-expected, 1, kind="stable")[:, :there]
    assert np.array_equal(rows[:, :there], best)
    np.testing.assert_allclose(scores[:, :there], np.take_along_axis(expected, best, 1), atol=1e-6)
    assert (rows[:, there:] == -1).all()
    assert (scores[:, there:] == -np.inf).all()


def test_one_image_that_takes_every_best_vector_does_not_push_others_out() -> None:
    vectors = unit(30, 3, 8)
    query = unit(1, 1, 8, seed=1)
    vectors[7] = query[0]  # the three best vectors are one image's
    rows, _ = Shortlist.build(vectors).search(query, 5)
    assert rows[0, 0] == 7
    assert len(set(rows[0].tolist())) == 5
    assert np.array_equal(rows[0], np.argsort(-slow_scores(query, vectors)[0])[:5])


def test_equal_images_stand_in_the_order_of_their_rows() -> None:
    vectors = np.repeat(unit(1, 1, 8), 6, axis=0)
    rows, _ = Shortlist.build(vectors).search(vectors[:1], 6)
    assert rows[0].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("m", [1, 2])
def test_a_mask_is_kept_to_by_every_kind_of_index(factory: str, m: int) -> None:
    vectors = unit(400, m, 16)
    mask = np.zeros(400, np.bool_)
    mask[::9] = True
    rows, _ = Shortlist.build(vectors, factory).search(unit(5, 1, 16, seed=1), 10, mask)
    assert (rows[:, 0] >= 0).all()
    assert mask[rows[rows >= 0]].all()
    nothing, scores = Shortlist.build(vectors, factory).search(vectors[:2], 3, np.zeros(400, np.bool_))
    assert (nothing == -1).all()
    assert (scores == -np.inf).all()


@pytest.mark.parametrize("factory", FACTORIES)
def test_saved_and_loaded_it_answers_the_same(factory: str, tmp_path: Path) -> None:
    vectors, queries = unit(400, 2, 16), unit(5, 1, 16, seed=1)
    built = Shortlist.build(vectors, factory, seed=3)
    built.save(tmp_path / "shortlist.faiss")
    loaded = Shortlist.load(tmp_path / "shortlist.faiss", 2)
    assert len(loaded) == len(built) == 400
    mask = np.arange(400) % 2 == 0
    for filtered in (None, mask):
        for before, after in zip(
            built.search(queries, 20, filtered), loaded.search(queries, 20, filtered), strict=True
        ):
            assert np.array_equal(before, after)
    Shortlist.build(vectors, factory, seed=3).save(tmp_path / "again.faiss")
    assert (tmp_path / "again.faiss").read_bytes() == (tmp_path / "shortlist.faiss").read_bytes()


def test_vectors_alone_are_a_flat_index() -> None:
    vectors, queries = unit(50, 2, 16).astype(np.float16), unit(3, 1, 16, seed=1)
    for before, after in zip(
        Shortlist.build(vectors).search(queries, 9), Shortlist.load(vectors).search(queries, 9), strict=True
    ):
        assert np.array_equal(before, after)


def test_more_than_one_list_is_probed() -> None:
    vectors = unit(2000, 1, 8)
    rows, _ = Shortlist.build(vectors, "IVF16,Flat").search(vectors[:50], 10)
    exact, _ = Shortlist.build(vectors).search(vectors[:50], 10)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows.tolist(), exact.tolist(), strict=True)])
    assert recall > 0.9


@pytest.mark.parametrize("factory", ["Flat", "IVF8,Flat"])
def test_no_image_at_all(factory: str) -> None:
    empty = Shortlist.build(np.empty((0, 1, 8), np.float32), factory)
    rows, scores = empty.search(unit(2, 1, 8), 3)
    assert rows.shape == scores.shape == (2, 0)
    assert Shortlist.build(unit(4, 1, 8)).search(unit(0, 1, 8), 3)[0].shape == (0, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_on_both_sides(value: float) -> None:
    vectors = unit(10, 2, 8)
    broken = vectors.copy()
    broken[3, 1, 0] = value
    with pytest.raises(ValueError, match="vector 7 of the vectors is not finite"):
        Shortlist.build(broken)
    with pytest.raises(ValueError, match="query is not finite"):
        Shortlist.build(vectors).search(broken[3:4], 2)


@pytest.mark.parametrize("factory", ["Flatt", "", "IVF"])
def test_a_factory_string_that_faiss_does_not_know_is_named(factory: str) -> None:
    with pytest.raises(ValueError, match=f"index = '{factory}' is no FAISS index .*could not parse"):
        Shortlist.build(unit(10, 1, 8), factory)


def test_a_factory_string_that_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="index = 'IVF64,Flat' does not fit 10 vectors"):
        Shortlist.build(unit(10, 1, 8), "IVF64,Flat")
    with pytest.raises(ValueError, match="index = 'PQ4x4' cannot leave rows out"):
        Shortlist.build(unit(700, 1, 8), "PQ4x4")


def test_shapes_that_do_not_fit_are_refused() -> None:
    shortlist = Shortlist.build(unit(10, 1, 8))
    with pytest.raises(ValueError, match="vectors are \\(10, 8\\)"):
        Shortlist.build(unit(10, 8))
    with pytest.raises(ValueError, match="queries are \\(2, 1, 9\\)"):
        shortlist.search(unit(2, 1, 9), 3)
    with pytest.raises(ValueError, match="the mask is \\(9,\\) bool"):
        shortlist.search(unit(2, 1, 8), 3, np.ones(9, np.bool_))
    with pytest.raises(ValueError, match="the mask is \\(10,\\) int64"):
        shortlist.search(unit(2, 1, 8), 3, np.ones(10, np.int64))


def test_a_file_that_is_no_index_of_ours_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "broken.faiss").write_bytes(b"IxFI")
    with pytest.raises(DamagedIndex, match=r"broken\.faiss is no FAISS index"):
        Shortlist.load(tmp_path / "broken.faiss")
    Shortlist.build(unit(10, 1, 8)).save(tmp_path / "ten.faiss")
    with pytest.raises(DamagedIndex, match="holds 10 vectors, not 3 an image"):
        Shortlist.load(tmp_path / "ten.faiss", 3)


def test_a_full_disk_is_an_os_error() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OSError, match="No space left"):
        Shortlist.build(unit(10, 1, 8)).save("/dev/full")


def test_threads_are_set_from_the_argument_alone() -> None:
    faiss.omp_set_num_threads(2)
    Shortlist.build(unit(10, 1, 8)).search(unit(1, 1, 8), 1)
    assert faiss.omp_get_max_threads() == 2
    Shortlist.build(unit(10, 1, 8), threads=1)
    assert faiss.omp_get_max_threads() == 1
