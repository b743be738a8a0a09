"""The scorings against the sums written out, for every codec and any numbers of tokens, some absent."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch

from crater_ray import config
from crater_ray.search import kernel
from crater_ray.search.codecs import NAMES as CODECS
from crater_ray.search.codecs import codec
from crater_ray.search.kernel import explain, score
from crater_ray.search.scoring import SCORINGS, mutual
from crater_ray.search.stages import exact, rerank

torch.set_num_threads(1)

NAMES = tuple(name for name in SCORINGS if not SCORINGS[name].places)  # test_consistent.py
DRAWS = np.random.default_rng(6)
# B, Q, C, K, D
SHAPES = [
    (1, 1, 1, 1, 1),
    (1, 1, 3, 5, 7),
    (1, 9, 3, 1, 7),
    (0, 3, 2, 2, 4),
    (2, 3, 0, 2, 4),
    (3, 256, 2, 64, 5),
] + [tuple(int(DRAWS.integers(1, most)) for most in (4, 20, 12, 20, 40)) for _ in range(12)]


def unit(*shape: int, seed: int = 0) -> np.ndarray:
    tokens = np.random.default_rng([seed, *shape]).normal(size=shape)
    return (tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)).astype(np.float32)


def slow(name: str, query: np.ndarray, image: np.ndarray) -> float:
    """Of one query (Q, D) and one image (K, D); rows of zeros are absent."""
    whole = len(query), len(image)
    query, image = query[query.any(1)], image[image.any(1)]
    if not len(query) or not len(image):
        return 0.0
    if name == "mean_token":
        here, there = query.sum(0), image.sum(0)
        return float(here @ there / (np.linalg.norm(here) * np.linalg.norm(there)))
    similarity = [[float(a @ b) for b in image] for a in query]
    best = [max(row) for row in similarity]
    back = [max(column) for column in zip(*similarity, strict=True)]
    if name == "maxsim":
        return float(np.sum(best)) / whole[0]
    if name == "chamfer":
        return float(np.sum(best) / whole[0] + np.sum(back) / whole[1]) / 2
    nearest = [row.index(max(row)) for row in similarity]
    returned = [column.index(max(column)) for column in zip(*similarity, strict=True)]
    return float(np.mean([best[q] for q, k in enumerate(nearest) if returned[k] == q]))


def quantised(queries: np.ndarray) -> np.ndarray:
    """One scale a query token, as the int8 kernel does."""
    scales = np.abs(queries).max(-1, keepdims=True) / 127
    return np.rint(queries / np.where(scales > 0, scales, 1)) * scales


def test_the_config_knows_every_scoring() -> None:
    assert get_args(config.Scoring) == tuple(SCORINGS)


def sparse(*shape: int, seed: int) -> np.ndarray:
    """Unit tokens of which about half are absent, and of the last image all."""
    tokens = unit(*shape, seed=seed)
    tokens[np.random.default_rng(seed).random(shape[:2]) < 0.5] = 0
    tokens[-1:] = 0
    return tokens


@pytest.mark.parametrize("kept", CODECS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("draw", [unit, sparse])
def test_scores_are_the_sums_written_out(draw: Callable[..., np.ndarray], name: str, kept: str) -> None:
    for b, q, c, k, dim in SHAPES:
        queries = draw(b, q, dim, seed=0)
        codes, scales = codec(kept).encode(draw(c, k, dim, seed=1))
        scores = score(queries, codes, scales, codec=kept, k=k, dim=dim, scoring=name)
        assert scores.shape == (b, c)
        assert scores.dtype == np.float32
        rounded = codec(kept).integers and name in ("maxsim", "chamfer")
        asked = quantised(queries) if rounded else queries
        images = codec(kept).decode(codes, scales, k, dim).astype(np.float64)
        expected = [[slow(name, query.astype(np.float64), image) for image in images] for query in asked]
        np.testing.assert_allclose(scores, np.reshape(expected, (b, c)), atol=1e-5)


@pytest.mark.parametrize("kept", CODECS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("draw", [unit, sparse])
def test_contributions_of_pairs_of_tokens_sum_to_the_score(
    draw: Callable[..., np.ndarray], name: str, kept: str
) -> None:
    for _, q, c, k, dim in SHAPES:
        query, images = draw(2, q, dim, seed=0)[0], draw(c, k, dim, seed=1)
        codes, scales = codec(kept).encode(images)
        scores = score(query[None], codes, scales, codec=kept, k=k, dim=dim, scoring=name)[0]
        found = explain(query, codes, scales, codec=kept, k=k, dim=dim, scoring=name)
        decoded = codec(kept).decode(codes, scales, k, dim)
        assert len(found) == c
        for one, image, score_ in zip(found, decoded, scores, strict=True):
            if name == "mean_token":
                assert not len(one.contribution)
                continue
            assert one.contribution.sum() == pytest.approx(score_, abs=1e-5)
            assert query[one.query_token].any(1).all()  # no absent token is pointed at
            assert image[one.gallery_token].any(1).all()
            similarity = (query[one.query_token] * image[one.gallery_token]).sum(1)
            np.testing.assert_allclose(one.similarity, similarity, atol=0.02)  # int8 rounds a query's tokens


def test_pairs_are_those_of_the_scoring() -> None:
    query, image = unit(1, 3, 2)[0], unit(1, 4, 2)
    query[:] = np.array([[1, 0], [0.8, 0.6], [0, 1]])
    image[0] = np.array([[1, 0], [0.6, 0.8], [-1, 0], [-0.6, -0.8]])
    codes, scales = codec("fp16").encode(image)

    def pairs(name: str) -> dict[tuple[int, int], float]:
        (one,) = explain(query, codes, scales, codec="fp16", k=4, dim=2, scoring=name)
        numbers = zip(one.query_token.tolist(), one.gallery_token.tolist(), strict=True)
        return dict(zip(numbers, one.contribution.tolist(), strict=True))

    assert pairs("maxsim") == pytest.approx({(0, 0): 1 / 3, (1, 1): 0.96 / 3, (2, 1): 0.8 / 3}, abs=1e-3)
    assert pairs("mutual") == pytest.approx({(0, 0): 1 / 2, (1, 1): 0.96 / 2}, abs=1e-3)
    forth = {(0, 0): 1 / 6, (1, 1): 0.96 / 6, (2, 1): 0.8 / 6}
    back = {(0, 0): 1 / 8, (1, 1): 0.96 / 8, (2, 2): 0.0, (0, 3): -0.6 / 8}
    both = {pair: forth.get(pair, 0) + back.get(pair, 0) for pair in {**forth, **back}}
    assert pairs("chamfer") == pytest.approx(both, abs=1e-3)
    assert pairs("mean_token") == {}


@pytest.mark.parametrize("kept", CODECS)
@pytest.mark.parametrize("name", NAMES)
def test_an_absent_token_is_never_the_best(name: str, kept: str) -> None:
    """Where all that is there points away from the query."""
    images = -np.abs(unit(3, 5, 8, seed=1))
    images[:, 1:4] = 0
    images[2] = 0
    codes, scales = codec(kept).encode(images)
    scores = score(np.abs(unit(1, 4, 8)), codes, scales, codec=kept, k=5, dim=8, scoring=name)[0]
    assert (scores[:2] < -0.2).all()
    assert scores[2] == 0


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_most_like_itself_and_symmetric_ones_know_no_side(name: str) -> None:
    images = unit(6, 8, 32)
    codes, scales = codec("fp16").encode(images)
    scores = score(images, codes, scales, codec="fp16", k=8, dim=32, scoring=name)
    np.testing.assert_allclose(np.diag(scores), 1.0, atol=1e-3)
    assert (scores.argmax(1) == np.arange(6)).all()
    if name != "maxsim":
        np.testing.assert_allclose(scores, scores.T, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_both_stages_hand_the_matching_on(name: str) -> None:
    queries = unit(2, 5, 16)
    codes, scales = codec("int8").encode(unit(9, 3, 16, seed=1))
    whole = score(queries, codes, scales, codec="int8", k=3, dim=16, scoring=name)
    blocks = [(0, codes[:4], scales[:4]), (4, codes[4:], scales[4:])]
    found = exact(queries, blocks, codec="int8", k=3, dim=16, rows=9, scoring=name)
    np.testing.assert_allclose(found, whole, atol=1e-6)
    rows = np.array([[3, 8, -1], [0, 3, 5]])
    again = rerank(queries, rows, lambda r: (codes[r], scales[r]), codec="int8", k=3, dim=16, scoring=name)
    np.testing.assert_allclose(again[rows >= 0], whole[[0, 0, 1, 1, 1], rows[rows >= 0]], atol=1e-6)
    assert again[0, 2] == -np.inf


@pytest.mark.parametrize("name", NAMES)
def test_the_same_without_int_mm(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = unit(3, 7, 24)
    codes, scales = codec("int8").encode(unit(5, 4, 24, seed=1))
    scores = score(queries, codes, scales, codec="int8", k=4, dim=24, scoring=name)
    monkeypatch.setattr(kernel, "has_int_mm", lambda: False)
    assert np.array_equal(score(queries, codes, scales, codec="int8", k=4, dim=24, scoring=name), scores)


def test_of_equal_pairs_the_first_are_mutual() -> None:
    one = torch.tensor([[0.5, 0.5, 0.5], [0.5, 0.9, 0.9]])  # (K, Q): 0 is nearest to 0, and 1 to 1
    scores = mutual(one[None, :, None], torch.ones(1, 3), lambda: None)
    assert scores.item() == pytest.approx((0.5 + 0.9) / 2)
    for seed in range(50):  # small integers: ties everywhere
        products = torch.randint(-2, 3, (2, 5, 1, 9), generator=torch.Generator().manual_seed(seed))
        scores = mutual(products.int(), torch.ones(1, 9), lambda: None)
        for image, score_ in zip(products[:, :, 0], scores[:, 0], strict=True):
            nearest, back = image.argmax(0).tolist(), image.argmax(1).tolist()
            pairs = [float(image[k, q]) for q, k in enumerate(nearest) if back[k] == q]
            assert pairs
            assert score_.item() == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("name", NAMES)
def test_tokens_of_nothing_score_nothing(name: str) -> None:
    queries, images = unit(2, 3, 8), unit(3, 2, 8, seed=1)
    queries[0], images[1] = 0, 0
    codes, scales = codec("int8").encode(images)
    scores = score(queries, codes, scales, codec="int8", k=2, dim=8, scoring=name)
    assert (scores[0] == 0).all()
    assert scores[1, 1] == 0
