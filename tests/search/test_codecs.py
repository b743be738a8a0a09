"""Codecs: what goes in comes out, within what each promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crater_ray.search.codecs import NAMES, codec, present
from crater_ray.search.kernel import score

COARSE = {"int4": 0.2, "int2": 0.6, "int1": 0.7}  # of unit tokens of eight dimensions


def unit_tokens(n: int, k: int, dim: int, seed: int = 0) -> np.ndarray:
    tokens = np.random.default_rng(seed).normal(size=(n, k, dim))
    return (tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("n", "k", "dim"), [(5, 7, 13), (1, 1, 1), (3, 64, 384), (0, 4, 8)])
def test_shapes_are_as_promised(name: str, n: int, k: int, dim: int) -> None:
    keeper = codec(name)
    codes, scales = keeper.encode(unit_tokens(n, k, dim))
    assert codes.shape == (n, keeper.record_bytes(k, dim))
    assert codes.dtype == np.uint8
    assert codes.flags.c_contiguous
    assert scales.shape == (n, keeper.scales)
    assert scales.dtype == np.float32
    decoded = keeper.decode(codes, scales, k, dim)
    assert decoded.shape == (n, k, dim)
    assert decoded.dtype == np.float32


def test_int8_is_rounding_but_for_two_codes_a_token() -> None:
    tokens = unit_tokens(20, 9, 33) * np.linspace(0.01, 40, 20, dtype=np.float32)[:, None, None]
    codes, scales = codec("int8").encode(tokens)
    np.testing.assert_allclose(scales[:, 0], np.abs(tokens).max((1, 2)) / 127, rtol=1e-6)
    integers = codes.view(np.int8).reshape(tokens.shape)
    exact = tokens / scales[:, :, None]
    assert (np.abs(integers - exact) <= 1.0001).all()
    assert ((np.abs(integers - exact) > 0.5001).sum(2) <= 2).all()
    assert integers.min() >= -127


def test_int8_keeps_a_tokens_product_with_itself() -> None:
    tokens = unit_tokens(20, 64, 384)
    codes, scales = codec("int8").encode(tokens)
    rounded = np.rint(tokens / scales[:, :, None]) * scales[:, :, None]
    errors = ((codec("int8").decode(codes, scales, 64, 384) - tokens) * tokens).sum(2)
    plain = ((rounded - tokens) * tokens).sum(2)
    assert np.sqrt((errors**2).mean()) < 0.5 * np.sqrt((plain**2).mean())


@pytest.mark.parametrize(
    ("name", "bits", "step"), [("int4", 4, 0.335), ("int2", 2, 0.996), ("int1", 1, 1.596)]
)
@pytest.mark.parametrize("dim", [384, 13])
def test_few_bits_are_the_nearest_odd_integer_of_a_normal_quantiser(
    name: str, bits: int, step: float, dim: int
) -> None:
    tokens = unit_tokens(5, 6, dim) * np.array([0.1, 1, 2, 30, 1], np.float32)[:, None, None]
    codes, scales = codec(name).encode(tokens)
    decoded = codec(name).decode(codes, scales, 6, dim)
    odd = np.arange(-(2**bits) + 1, 2**bits, 2)  # every level
    for image in range(5):
        half = step / 2 * np.sqrt((tokens[image].astype(np.float64) ** 2).mean())
        assert scales[image, 0] == pytest.approx(half, rel=1e-6)
        for token in range(6):
            nearest = odd[np.abs(tokens[image, token, :, None] / half - odd).argmin(1)] * half
            np.testing.assert_allclose(decoded[image, token], nearest, rtol=1e-5)
    words = 2 if bits == 4 else 1
    assert codes.shape[1] == 6 * words * -(-dim * bits // (8 * words))


def test_fp16_is_numpys_rounding() -> None:
    tokens = unit_tokens(4, 5, 6)
    codes, scales = codec("fp16").encode(tokens)
    assert np.array_equal(
        codec("fp16").decode(codes, scales, 5, 6), tokens.astype(np.float16).astype(np.float32)
    )


@pytest.mark.parametrize("name", NAMES)
def test_decoding_and_encoding_again_gives_the_same_bytes(name: str) -> None:
    codes, scales = codec(name).encode(unit_tokens(6, 4, 10))
    again, _ = codec(name).encode(codec(name).decode(codes, scales, 4, 10))
    assert np.array_equal(again, codes)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0.0, 1e-42])
def test_an_image_of_nothing_decodes_to_nothing(name: str, value: float) -> None:
    tokens = unit_tokens(3, 2, 8)
    tokens[1] = value
    codes, scales = codec(name).encode(tokens)
    decoded = codec(name).decode(codes, scales, 2, 8)
    assert np.isfinite(scales).all()
    assert (np.abs(decoded[1]) <= 1e-40).all()
    np.testing.assert_allclose(decoded[[0, 2]], tokens[[0, 2]], atol=COARSE.get(name, 1e-2))


@pytest.mark.parametrize("name", NAMES)
def test_torch_tensors_are_taken(name: str) -> None:
    tokens = unit_tokens(2, 3, 4)
    assert np.array_equal(codec(name).encode(torch.from_numpy(tokens))[0], codec(name).encode(tokens)[0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_token_that_is_not_finite_is_refused_with_its_image(name: str, value: float) -> None:
    tokens = unit_tokens(5, 2, 3)
    tokens[3, 1, 2] = value
    with pytest.raises(ValueError, match="tokens of image 3 are not finite"):
        codec(name).encode(tokens)


def test_what_float16_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="float16 cannot hold"):
        codec("fp16").encode(np.full((1, 1, 1), 1e5, np.float32))


def test_an_unknown_name_names_the_closest() -> None:
    with pytest.raises(
        ValueError,
        match=r"no codec is called 'in8'; did you mean 'int8'\? known: int8, int4, int2, int1, fp16",
    ):
        codec("in8")
    with pytest.raises(ValueError, match="known: int8, int4, int2, int1, fp16"):
        codec("zstd")


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="takes \\(images, tokens, dimensions\\)"):
        codec("int8").encode(np.zeros((3, 4), np.float32))
    with pytest.raises(ValueError, match="keeps \\(images, 12\\) uint8"):
        codec("int8").decode(np.zeros((2, 11), np.uint8), np.ones((2, 1), np.float32), 3, 4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dim", [1, 5, 8, 13, 64])
def test_an_absent_token_is_kept_as_absent_and_no_other_is(name: str, dim: int) -> None:
    tokens = unit_tokens(40, 9, dim)
    there = np.random.default_rng(1).random((40, 9)) < 0.4
    there[0], there[1] = True, False
    tokens[~there] = 0
    tokens[0, 0] = -np.abs(
        tokens[0, 0]
    )  # below zero in every dimension, and so of the lowest level in one bit
    tokens[0, 1] = -1 / np.sqrt(dim)
    keeper = codec(name)
    codes, scales = keeper.encode(tokens)
    assert np.array_equal(present(codes, 9), there)
    assert present(codes[:1], 9) is None  # all of them
    decoded = keeper.decode(codes, scales, 9, dim)
    assert np.array_equal(decoded.any(2), there)
    assert not keeper.operand(codes, 9, dim).reshape(40, 9, dim)[~there].any()
    again, _ = keeper.encode(decoded)
    assert np.array_equal(again, codes)
    if dim == 1:
        assert np.array_equal(np.sign(decoded), np.sign(tokens))


@pytest.mark.parametrize("name", NAMES)
def test_an_absent_token_has_no_say_in_the_others(name: str) -> None:
    """Tokens among absent ones are kept as they are alone, to the last bit."""
    alone = unit_tokens(3, 4, 24)
    among = np.zeros((3, 60, 24), np.float32)
    among[:, [7, 20, 21, 59]] = alone
    among[:, 5] = -0.0
    codes, scales = codec(name).encode(among)
    expected_codes, expected_scales = codec(name).encode(alone)
    assert np.array_equal(scales, expected_scales)
    expected = codec(name).decode(expected_codes, expected_scales, 4, 24)
    assert np.array_equal(codec(name).decode(codes, scales, 60, 24)[:, [7, 20, 21, 59]], expected)
    assert np.array_equal(np.flatnonzero(present(codes, 60)[0]), [7, 20, 21, 59])


@pytest.mark.parametrize(("name", "near"), [("int8", 0.001), ("int4", 0.01), ("int2", 0.03), ("int1", 0.04)])
def test_a_sparse_image_is_as_near_to_float16_as_a_full_one(name: str, near: float) -> None:
    """Seven of 576 cells filled: the length of its tokens, and its score with itself, over float16's."""
    full = unit_tokens(6, 576, 128)
    few = np.zeros_like(full)
    few[:, ::90] = full[:, ::90]
    ratios = []
    for tokens in (full, few):
        scores: list[np.ndarray] = []
        lengths: list[float] = []
        for kept in (name, "fp16"):
            codes, scales = codec(kept).encode(tokens)
            decoded = codec(kept).decode(codes, scales, 576, 128)
            lengths.append(np.linalg.norm(decoded, axis=2)[tokens.any(2)].mean())
            own = score(tokens, codes, scales, codec=kept, k=576, dim=128)
            scores.append(np.diag(own).mean())
        ratios.append([lengths[0] / lengths[1], scores[0] / scores[1]])
        assert scores[1] == pytest.approx(tokens.any(2).mean(), rel=1e-3)  # its share of present tokens
    np.testing.assert_allclose(ratios[1], ratios[0], rtol=near)
