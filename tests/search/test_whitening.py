"""Whitening against NumPy written slowly, and what becomes of few, wide and equal vectors."""

from __future__ import annotations

import numpy as np
import pytest

from crater_ray.search.shortlist import Shortlist
from crater_ray.search.whitening import SAMPLE, WIDEST, learn, whiten


def views(n: int, m: int = 1, dim: int = 12, seed: int = 0) -> np.ndarray:
    """Unit vectors with a common direction and axes of very different spread, as a backbone gives them."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((n, m, dim)) * np.geomspace(1, 0.01, dim) + 2 * np.eye(dim)[1]
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float16)


def test_it_is_pca_whitening_with_a_floor_and_unit_rows() -> None:
    vectors, queries = views(300, m=2), views(5, seed=1)
    flat = vectors.reshape(-1, 12).astype(np.float64)
    covariance = np.cov(flat.T, bias=True)
    variances, axes = np.linalg.eigh(covariance)
    floor = 0.3 / len(flat) * np.trace(covariance)
    expected = np.zeros((5, 12))
    for number, query in enumerate(queries[:, 0].astype(np.float64)):
        for axis in range(12):
            along = axes[:, 11 - axis]
            expected[number, axis] = (query - flat.mean(0)) @ along / np.sqrt(variances[11 - axis] + floor)
        expected[number] /= np.linalg.norm(expected[number])
    found = whiten(queries, learn(vectors, seed=0))
    assert (found.shape, found.dtype) == ((5, 1, 12), np.float32)
    signs = np.sign((found[:, 0] * expected).sum(0))  # an axis may point either way
    np.testing.assert_allclose(found[:, 0], expected * signs, atol=1e-5)


def test_search_over_whitened_vectors_is_brute_force_under_a_mask() -> None:
    vectors, queries = views(200, m=2), views(4, m=3, seed=1)
    learnt = learn(vectors, seed=0)
    gallery, asked = whiten(vectors, learnt), whiten(queries, learnt)
    mask = np.random.default_rng(2).random(200) < 0.5
    slow = np.array(
        [[max(float(q @ g) for q in query for g in image) for image in gallery] for query in asked]
    )
    slow[:, ~mask] = -np.inf
    rows, scores = Shortlist.build(gallery).search(asked, 20, mask)
    np.testing.assert_allclose(scores, -np.sort(-slow, 1)[:, :20], atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(slow, rows, 1), scores, atol=1e-6)


def test_axes_without_spread_are_not_blown_up() -> None:
    vectors = views(40)
    vectors[..., 5] = 0.25  # the same in all
    found = whiten(vectors, learn(vectors, seed=0))
    assert np.isfinite(found).all()
    spread = found.reshape(-1, 12).std(0)
    assert spread.min() < 0.1 * spread.max()


def test_wide_vectors_keep_the_axes_that_the_sample_spans() -> None:
    random = np.random.default_rng(0)
    vectors = random.standard_normal((30, 1, WIDEST + 1)).astype(np.float32)
    learnt = learn(vectors, seed=0)
    assert learnt["axes"].shape == (29, WIDEST + 1)
    products = learnt["axes"] @ learnt["axes"].T
    np.testing.assert_allclose(products - np.diag(np.diag(products)), 0, atol=1e-4 * products.max())
    found = whiten(vectors, learnt)[:, 0]
    assert np.array_equal((found @ found.T).argmax(1), np.arange(30))


def test_a_seed_draws_the_same_sample_and_one_vector_or_equal_ones_teach_nothing() -> None:
    many = views(SAMPLE + 50, dim=4)
    for one, other in zip(learn(many, seed=3).values(), learn(many, seed=3).values(), strict=True):
        assert np.array_equal(one, other)
    assert not np.array_equal(learn(many, seed=3)["centre"], learn(many, seed=4)["centre"])
    for few in (views(1), np.repeat(views(1), 5, axis=0)):
        assert np.abs(whiten(few, learn(few, seed=0))).max() <= 1
        assert np.isfinite(whiten(few, learn(few, seed=0))).all()


def test_what_cannot_be_learnt_from_or_compared_is_refused() -> None:
    broken = views(10)
    broken[3, 0, 2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        learn(broken, seed=0)
    with pytest.raises(ValueError, match="no vector"):
        learn(np.empty((0, 1, 12), np.float16), seed=0)
    with pytest.raises(ValueError, match=r"\(images, vectors, 12\)"):
        whiten(views(3, dim=8), learn(views(10), seed=0))


def test_vectors_of_zeros_teach_nothing_and_stay_zeros() -> None:
    """They are of images without a token: less their mean they would all point one way."""
    vectors = views(60)
    some = np.insert(vectors, [0, 7, 7, 60], 0, axis=0)
    learnt, expected = learn(some, seed=0), learn(vectors, seed=0)
    for key in expected:
        np.testing.assert_array_equal(learnt[key], expected[key])
    found = whiten(some, learnt)
    assert np.array_equal(found.any((1, 2)), some.any((1, 2)))
    np.testing.assert_allclose(found[found.any((1, 2))], whiten(vectors, expected), atol=1e-6)
    assert np.isfinite(learn(np.zeros((5, 1, 4), np.float16), seed=0)["axes"]).all()
