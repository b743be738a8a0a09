"""Exact search, rerank and the order of their scores."""

from __future__ import annotations

import time

import numpy as np
import pytest

from crater_ray.search import stages
from crater_ray.search.codecs import codec
from crater_ray.search.kernel import score
from crater_ray.search.stages import exact, ranked, rerank

K, DIM = 3, 16


def unit(*shape: int, seed: int = 0) -> np.ndarray:
    tokens = np.random.default_rng([seed, *shape]).normal(size=shape)
    return (tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)).astype(np.float32)


def slow_ranked(scores: np.ndarray, ids: list[str], top: int) -> list[int]:
    there = [place for place in range(len(ids)) if scores[place] > -np.inf]
    return sorted(there, key=lambda place: (-scores[place], ids[place]))[:top]


@pytest.mark.parametrize("name", ["int8", "fp16"])
def test_exact_is_the_kernel_over_all_blocks(name: str) -> None:
    queries = unit(2, 5, DIM)
    codes, scales = codec(name).encode(unit(20, K, DIM, seed=1))
    blocks = [(15, codes[15:], scales[15:]), (0, codes[:4], scales[:4]), (4, codes[4:12], scales[4:12])]
    scores = exact(queries, blocks, codec=name, k=K, dim=DIM, rows=20)
    expected = score(queries, codes, scales, codec=name, k=K, dim=DIM)
    np.testing.assert_allclose(scores[:, :12], expected[:, :12], atol=1e-7)
    np.testing.assert_allclose(scores[:, 15:], expected[:, 15:], atol=1e-7)
    assert (scores[:, 12:15] == -np.inf).all()


def test_exact_refuses_a_block_out_of_place() -> None:
    codes, scales = codec("int8").encode(unit(4, K, DIM))
    with pytest.raises(ValueError, match="a block holds rows 7 to 10, but there are rows 0 to 9"):
        exact(unit(1, 2, DIM), [(7, codes, scales)], codec="int8", k=K, dim=DIM, rows=10)


def test_rerank_scores_each_querys_own_rows() -> None:
    queries = unit(3, 5, DIM)
    codes, scales = codec("int8").encode(unit(30, K, DIM, seed=1))
    rows = np.array([[4, -1, 29, 4], [-1, -1, -1, -1], [0, 1, 2, -1]])
    scores = rerank(queries, rows, lambda r: (codes[r], scales[r]), codec="int8", k=K, dim=DIM)
    every = score(queries, codes, scales, codec="int8", k=K, dim=DIM)
    assert scores.shape == rows.shape
    assert scores.dtype == np.float32
    for number in range(3):
        for place, row in enumerate(rows[number]):
            expected = every[number, row] if row >= 0 else -np.inf
            assert scores[number, place] == pytest.approx(expected, abs=1e-7)


def test_rerank_of_every_row_is_exact() -> None:
    queries = unit(2, 5, DIM)
    codes, scales = codec("int8").encode(unit(30, K, DIM, seed=1))
    rows = np.tile(np.arange(30), (2, 1))
    scores = rerank(queries, rows, lambda r: (codes[r], scales[r]), codec="int8", k=K, dim=DIM)
    blocks = [(0, codes, scales)]
    np.testing.assert_allclose(scores, exact(queries, blocks, codec="int8", k=K, dim=DIM, rows=30), atol=1e-7)


def test_rerank_gathers_by_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    queries = unit(2, 5, DIM)
    codes, scales = codec("int8").encode(unit(30, K, DIM, seed=1))
    rows = np.array([[7, 3, -1, 9, 0, 11, 29], [1, -1, -1, 2, 3, 4, 5]])
    sizes: list[int] = []

    def gather(some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sizes.append(len(some))
        return codes[some], scales[some]

    expected = rerank(queries, rows, gather, codec="int8", k=K, dim=DIM)
    monkeypatch.setattr(stages, "BLOCK_BYTES", 4 * K * DIM + 1)
    np.testing.assert_allclose(rerank(queries, rows, gather, codec="int8", k=K, dim=DIM), expected, atol=1e-7)
    assert sizes == [6, 5, 4, 2, 4, 1]


def test_rerank_refuses_rows_that_do_not_pair() -> None:
    with pytest.raises(ValueError, match=r"rows are \(3, 4\) for 2 queries"):
        rerank(unit(2, 5, DIM), np.zeros((3, 4), np.int64), lambda r: (r, r), codec="int8", k=K, dim=DIM)


@pytest.mark.parametrize("top", [0, 1, 2, 3, 5, 50, 199, 200, 1000])
@pytest.mark.parametrize("levels", [1, 2, 7, 10_000])
def test_ranked_is_a_sort_by_score_then_id(top: int, levels: int) -> None:
    random = np.random.default_rng([top, levels])
    scores = random.integers(levels, size=200).astype(np.float32) / 7
    scores[random.random(200) < 0.1] = -np.inf
    ids = [f"{name:04d}" for name in random.permutation(200)]
    order = ranked(scores, ids, top)
    assert order.dtype == np.int64
    assert order.tolist() == slow_ranked(scores, ids, top)


def test_ranked_takes_ranks_for_ids_and_keeps_names_in_text_order() -> None:
    scores = np.array([1, 1, 1, 2], np.float32)
    assert ranked(scores, ["b10", "b9", "a", "z"], 3).tolist() == [3, 2, 0]
    assert ranked(scores, np.array([5, 1, 3, 0]), 3).tolist() == [3, 1, 2]


def test_ranked_without_an_answer_is_empty() -> None:
    assert ranked(np.empty(0, np.float32), [], 5).tolist() == []
    assert ranked(np.full(3, -np.inf, np.float32), ["a", "b", "c"], 2).tolist() == []


def test_ranked_refuses_a_nan_and_lengths_that_differ() -> None:
    with pytest.raises(ValueError, match="the score of 'b' is NaN"):
        ranked(np.array([1, np.nan, 2], np.float32), ["a", "b", "c"], 1)
    with pytest.raises(ValueError, match=r"scores are \(3,\) for 2 ids"):
        ranked(np.zeros(3, np.float32), ["a", "b"], 1)


def test_ranked_does_not_sort_a_million_to_find_ten() -> None:
    scores = np.random.default_rng(0).random(1_000_000, np.float32)
    scores[123_456] = scores[654_321] = 2
    ids = np.arange(1_000_000)[::-1]
    started = time.process_time()
    order = ranked(scores, ids, 10)
    assert time.process_time() - started < 1
    assert order[:2].tolist() == [654_321, 123_456]
