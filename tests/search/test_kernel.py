"""The kernel against the sum written out, for every shape that could go wrong."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest
import torch

from crater_ray.search import kernel
from crater_ray.search.codecs import NAMES, codec

torch.set_num_threads(1)

# B, Q, C, K, D: odd Q, one token, D no multiple of 4 or 16, several queries, no image, one, several chunks
SHAPES = [
    (1, 7, 5, 3, 24),
    (1, 1, 4, 1, 16),
    (2, 5, 9, 1, 13),
    (3, 17, 6, 4, 7),
    (1, 16, 0, 64, 32),
    (2, 3, 1, 5, 1),
    (4, 196, 3, 8, 30),
    (5, 64, 150, 64, 20),
    (1, 300, 40, 33, 10),
    (0, 4, 3, 2, 8),
    (9, 100, 70, 64, 12),
]


def unit(*shape: int, seed: int = 0) -> np.ndarray:
    tokens = np.random.default_rng([seed, *shape]).normal(size=shape)
    return (tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)).astype(np.float32)


def slow_similarities(query: np.ndarray, image: np.ndarray) -> np.ndarray:
    """(Q, K), one dot product after another."""
    return np.array([[float(np.dot(a.astype(np.float64), b)) for b in image] for a in query])


def slow_maxsim(queries: np.ndarray, images: np.ndarray) -> np.ndarray:
    return np.array(
        [[slow_similarities(query, image).max(1).mean() for image in images] for query in queries]
    ).reshape(len(queries), len(images))


def maxsim(queries: np.ndarray, images: np.ndarray) -> np.ndarray:
    """The same in one line, for shapes that would take the loop minutes."""
    similarities = np.einsum("bqd,ckd->bcqk", queries.astype(np.float64), images.astype(np.float64))
    return similarities.max(3).mean(2)


def quantised(queries: np.ndarray) -> np.ndarray:
    """One scale a query token, as the int8 kernel does."""
    scales = np.abs(queries).max(-1, keepdims=True) / 127
    return np.rint(queries / np.where(scales > 0, scales, 1)) * scales


def test_one_line_and_loop_agree() -> None:
    queries, images = unit(2, 3, 8), unit(4, 5, 8)
    np.testing.assert_allclose(maxsim(queries, images), slow_maxsim(queries, images), atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_scores_are_maxsim_of_what_is_kept(name: str, shape: tuple[int, ...]) -> None:
    b, q, c, k, dim = shape
    queries, images = unit(b, q, dim), unit(c, k, dim, seed=1)
    codes, scales = codec(name).encode(images)
    scores = kernel.score(queries, codes, scales, codec=name, k=k, dim=dim)
    assert scores.shape == (b, c)
    assert scores.dtype == np.float32
    asked = quantised(queries) if codec(name).integers else queries
    np.testing.assert_allclose(scores, maxsim(asked, codec(name).decode(codes, scales, k, dim)), atol=3e-6)


@pytest.mark.parametrize(("q", "k"), [(16, 64), (64, 64), (5, 3)])
def test_int8_is_within_two_thousandths_of_float32(q: int, k: int) -> None:
    queries, images = unit(2, q, 384), unit(50, k, 384, seed=1)
    codes, scales = codec("int8").encode(images)
    scores = kernel.score(queries, codes, scales, codec="int8", k=k, dim=384)
    assert np.abs(scores - maxsim(queries, images)).max() <= 2e-3


def test_images_and_queries_of_any_length_are_taken() -> None:
    factors = np.array([0.01, 1, 50], np.float32)[:, None, None]
    queries, images = unit(3, 4, 32) * factors, unit(3, 6, 32, seed=1) * factors
    codes, scales = codec("int8").encode(images)
    scores = kernel.score(queries, codes, scales, codec="int8", k=6, dim=32)
    np.testing.assert_allclose(scores, maxsim(queries, images), rtol=0.02)


def test_tokens_of_nothing_score_nothing() -> None:
    queries, images = unit(2, 3, 8), unit(3, 2, 8, seed=1)
    queries[0], images[1] = 0, 0
    codes, scales = codec("int8").encode(images)
    scores = kernel.score(queries, codes, scales, codec="int8", k=2, dim=8)
    assert (scores[0] == 0).all()
    assert scores[1, 1] == 0
    assert (scores[1, [0, 2]] != 0).all()


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[0]])
def test_float32_stands_in_for_int_mm_with_the_same_scores(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    b, q, c, k, dim = shape
    queries = unit(b, q, dim)
    codes, scales = codec("int8").encode(unit(c, k, dim, seed=1))
    scores = []
    for has in (True, False):
        monkeypatch.setattr(kernel, "has_int_mm", lambda has=has: has)
        scores.append(kernel.score(queries, codes, scales, codec="int8", k=k, dim=dim))
    assert np.array_equal(*scores)


def test_int_mm_is_used_where_it_is_right_and_the_quicker_road(monkeypatch: pytest.MonkeyPatch) -> None:
    def tried(integers: float, floats: float) -> bool:
        seconds = iter((integers, floats))
        monkeypatch.setattr(kernel, "_seconds", lambda multiply: (multiply(), next(seconds))[1])
        return kernel.has_int_mm.__wrapped__()

    assert tried(1e-4, 4e-4)
    assert not tried(2e-2, 4e-4)  # a plain loop, as where the CPU has no AVX-512
    product = torch._int_mm
    monkeypatch.setattr(torch, "_int_mm", lambda a, b, out: product(a, b, out=out).add_(1))  # wrong
    assert not tried(1e-4, 4e-4)
    monkeypatch.delattr(torch, "_int_mm")
    assert not tried(1e-4, 4e-4)


def test_a_query_scores_the_same_alone_as_among_others() -> None:
    queries = torch.from_numpy(unit(6, 50, 32))
    codes, scales = codec("int8").encode(unit(30, 8, 32, seed=1))
    together = kernel.score(queries, codes, scales, codec="int8", k=8, dim=32)
    alone = [kernel.score(query[None], codes, scales, codec="int8", k=8, dim=32)[0] for query in queries]
    np.testing.assert_allclose(together, alone, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_a_read_only_memmap_is_scored_in_place(name: str, tmp_path: Path) -> None:
    images = unit(20, 3, 10)
    codes, scales = codec(name).encode(images)
    (tmp_path / "codes.bin").write_bytes(codes.tobytes())
    mapped = np.memmap(tmp_path / "codes.bin", np.uint8, "r", shape=codes.shape)
    queries = unit(2, 4, 10, seed=2)
    expected = kernel.score(queries, codes, scales, codec=name, k=3, dim=10)
    assert np.array_equal(kernel.score(queries, mapped, scales, codec=name, k=3, dim=10), expected)
    every_other = kernel.score(queries, mapped[::2], scales[::2], codec=name, k=3, dim=10)
    np.testing.assert_allclose(every_other, expected[:, ::2], atol=1e-7)
    assert codes.shape[1] * 20 < mmap.PAGESIZE * 2
    assert not mapped.flags.writeable


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("q", "c", "k", "dim"), [(5, 7, 4, 12), (64, 130, 64, 16), (3, 1, 1, 9), (4, 0, 2, 8)]
)
def test_explain_agrees_with_the_score_and_with_every_similarity(
    name: str, q: int, c: int, k: int, dim: int
) -> None:
    query = unit(q, dim)
    codes, scales = codec(name).encode(unit(c, k, dim, seed=1))
    found = kernel.explain(query, codes, scales, codec=name, k=k, dim=dim)
    scores = kernel.score(query[None], codes, scales, codec=name, k=k, dim=dim)[0]
    asked = quantised(query) if codec(name).integers else query
    every = np.einsum("qd,ckd->cqk", asked, codec(name).decode(codes, scales, k, dim))
    assert len(found) == c
    for one, score_, similarities in zip(found, scores, every, strict=True):
        assert sorted(one.query_token) == list(range(q))
        assert one.similarity.dtype == one.contribution.dtype == np.float32
        assert (np.diff(one.contribution) <= 0).all()
        assert one.contribution.sum() == pytest.approx(score_, abs=1e-6)
        np.testing.assert_allclose(one.contribution * q, one.similarity, atol=1e-6)
        np.testing.assert_allclose(one.similarity, similarities.max(1)[one.query_token], atol=3e-6)
        chosen = similarities[one.query_token, one.gallery_token]
        np.testing.assert_allclose(chosen, one.similarity, atol=3e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_query_that_is_not_finite_is_refused(value: float) -> None:
    codes, scales = codec("int8").encode(unit(3, 2, 8))
    query = unit(1, 4, 8)
    query[0, 2, 1] = value
    with pytest.raises(ValueError, match="not finite"):
        kernel.score(query, codes, scales, codec="int8", k=2, dim=8)
    with pytest.raises(ValueError, match="not finite"):
        kernel.explain(query[0], codes, scales, codec="int8", k=2, dim=8)


def test_shapes_and_names_that_do_not_fit_are_refused() -> None:
    codes, scales = codec("int8").encode(unit(3, 2, 8))
    queries = unit(1, 4, 8)
    with pytest.raises(ValueError, match=r"queries are \(1, 4, 8\)"):
        kernel.score(queries, codes, scales, codec="int8", k=4, dim=4)
    with pytest.raises(ValueError, match=r"queries are \(4, 8\)"):
        kernel.score(queries[0], codes, scales, codec="int8", k=2, dim=8)
    with pytest.raises(ValueError, match="a token or more"):
        kernel.score(queries[:, :0], codes, scales, codec="int8", k=2, dim=8)
    with pytest.raises(ValueError, match=r"keeps \(images, 24\) uint8"):
        kernel.score(queries, codes, scales, codec="int8", k=3, dim=8)
    with pytest.raises(ValueError, match=r"keeps \(3, 1\)"):
        kernel.score(queries, codes, scales[:2], codec="int8", k=2, dim=8)
    with pytest.raises(ValueError, match="k = 0"):
        kernel.score(queries, codes, scales, codec="int8", k=0, dim=8)
    with pytest.raises(ValueError, match="no codec is called 'int5'"):
        kernel.score(queries, codes, scales, codec="int5", k=2, dim=8)
    with pytest.raises(ValueError, match=r"no scoring is called 'maxim'; did you mean 'maxsim'\?"):
        kernel.score(queries, codes, scales, codec="int8", k=2, dim=8, scoring="maxim")
