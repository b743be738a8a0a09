"""The codec that learns: what is decoded is what is scored, and its errors are where they do no harm."""

from __future__ import annotations

import numpy as np
import pytest

from crater_ray.search.codecs import LEARNING, NAMES, codec
from crater_ray.search.kernel import explain, score
from crater_ray.search.matchings import MATCHINGS
from crater_ray.search.residual import IMAGE_BYTES, Residual, shares

K, DIM = 12, 64


def images(n: int, seed: int = 0) -> np.ndarray:
    """Tokens that share much, as a frozen backbone's do: unit rows (n, K, DIM)."""
    random = np.random.default_rng(seed)
    spread = np.geomspace(1, 0.03, DIM)
    tokens = 1 + random.normal(size=(n, 1, DIM)) * spread + random.normal(size=(n, K, DIM)) * spread
    return (tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def learnt() -> dict[str, dict[str, np.ndarray]]:
    return {name: codec(name).fit(images(300), 0) for name in LEARNING}


def made(name: str, learnt: dict[str, dict[str, np.ndarray]]) -> Residual:
    keeper = codec(name, learnt[name])
    assert isinstance(keeper, Residual)
    return keeper


def decoded_slowly(codes: np.ndarray, width: int, learnt: dict[str, np.ndarray], role: str) -> np.ndarray:
    """One record of one role, bit by bit: (D,) of (width,) bytes."""
    stream = "".join(f"{byte:08b}"[::-1] for byte in codes)  # the lowest bit first
    out = np.zeros(learnt[f"{role}.back"].shape[1])
    place = 0
    for bits, direction in zip(learnt[f"{role}.bits"].tolist(), learnt[f"{role}.back"], strict=True):
        level = int(stream[place : place + bits][::-1], 2)
        out += (2 * level - min(2**bits - 1, 127)) * direction.astype(np.float64)
        place += bits
    assert place <= 8 * width
    return out


@pytest.mark.parametrize("name", LEARNING)
def test_decoding_is_the_bits_along_the_axes(name: str, learnt: dict[str, dict[str, np.ndarray]]) -> None:
    keeper, state = made(name, learnt), learnt[name]
    codes, scales = keeper.encode(images(3, seed=1))
    assert codes.shape == (3, IMAGE_BYTES + K * keeper.token_bytes)
    assert scales.shape == (3, 0)
    decoded = keeper.decode(codes, scales, K, DIM)
    for image in range(3):
        base = state["mean"] + decoded_slowly(codes[image, :IMAGE_BYTES], IMAGE_BYTES, state, "image")
        for token in range(K):
            start = IMAGE_BYTES + token * keeper.token_bytes
            some = codes[image, start : start + keeper.token_bytes]
            slowly = base + decoded_slowly(some, keeper.token_bytes, state, "token")
            np.testing.assert_allclose(decoded[image, token], slowly, atol=1e-5)


@pytest.mark.parametrize("match", sorted(MATCHINGS))
@pytest.mark.parametrize("name", LEARNING)
def test_the_kernel_scores_what_is_decoded(
    name: str, match: str, learnt: dict[str, dict[str, np.ndarray]]
) -> None:
    keeper = made(name, learnt)
    asked = images(4, seed=2)[:, :7]
    codes, scales = keeper.encode(images(90, seed=1))
    decoded = keeper.decode(codes, scales, K, DIM)
    plain, none = codec("fp16").encode(decoded)
    expected = score(asked, plain, none, codec="fp16", k=K, dim=DIM, match=match)
    found = score(asked, codes, scales, codec=keeper, k=K, dim=DIM, match=match)
    np.testing.assert_allclose(found, expected, atol=5e-3)


def test_explain_agrees_with_the_score(learnt: dict[str, dict[str, np.ndarray]]) -> None:
    keeper = made("residual48", learnt)
    codes, scales = keeper.encode(images(20, seed=1))
    asked = images(1, seed=2)[0]
    best, similarity = explain(asked, codes, scales, codec=keeper, k=K, dim=DIM)
    found = score(asked[None], codes, scales, codec=keeper, k=K, dim=DIM)[0]
    np.testing.assert_allclose(similarity.mean(1), found, atol=1e-5)
    decoded = keeper.decode(codes, scales, K, DIM)
    chosen = np.take_along_axis(decoded, best[:, :, None], 1)
    np.testing.assert_allclose(similarity, (chosen * asked).sum(2), atol=1e-2)


@pytest.mark.parametrize("name", LEARNING)
def test_a_tokens_product_with_itself_is_kept(name: str, learnt: dict[str, dict[str, np.ndarray]]) -> None:
    keeper, tokens = made(name, learnt), images(40, seed=1)
    errors = keeper.decode(*keeper.encode(tokens), K, DIM) - tokens
    along = (errors * tokens).sum(2)
    assert np.abs(along).mean() < 0.1 * np.linalg.norm(errors, axis=2).mean()
    assert (
        np.linalg.norm(errors, axis=2).mean()
        < 0.5 * np.linalg.norm(tokens - tokens.mean((0, 1)), axis=2).mean()
    )


def test_what_is_learnt_depends_on_the_sample_and_the_seed_alone() -> None:
    first, again = (codec("residual16").fit(images(50), 3) for _ in range(2))
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert {key: value.dtype.name for key, value in first.items() if value.dtype != np.float32} == {
        "image.bits": "uint8",
        "token.bits": "uint8",
    }


@pytest.mark.parametrize("dim", [1, 5, 13, 100])
def test_any_number_of_dimensions_will_do(dim: int) -> None:
    tokens = np.random.default_rng(0).normal(size=(60, 3, dim)).astype(np.float32)
    keeper = codec("residual16", codec("residual16").fit(tokens, 0))
    codes, scales = keeper.encode(tokens)
    decoded = keeper.decode(codes, scales, 3, dim)
    assert np.isfinite(decoded).all()
    assert ((decoded - tokens) ** 2).mean() < 0.6


def test_shares_fit_their_bytes_and_favour_strong_axes() -> None:
    for width in (1, 16, 48, 128):
        eight, four, two, one = shares(np.geomspace(1, 1e-4, 384), width)
        assert 8 * eight + 4 * four + 2 * two + one <= 8 * width
        assert eight + four + two + one <= 384
    assert shares(np.ones(16), 16) == (16, 0, 0, 0)
    assert shares(np.ones(128), 16) == (0, 0, 0, 128)


def test_it_refuses_what_it_has_not_learnt(learnt: dict[str, dict[str, np.ndarray]]) -> None:
    assert not set(LEARNING) & set(NAMES)
    with pytest.raises(ValueError, match="learns from a sample"):
        codec("residual16").encode(images(2))
    with pytest.raises(ValueError, match="64 dimensions, not 8"):
        made("residual16", learnt).encode(np.ones((2, 3, 8), np.float32))
    with pytest.raises(ValueError, match="two images"):
        codec("residual16").fit(images(1), 0)
