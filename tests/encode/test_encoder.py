"""Padding, precision, rounding, caching and checks of the encoder."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from crater_ray.builtin.backbones.timm_model import TimmBackbone
from crater_ray.builtin.poolings import Cls, Gem, Mean
from crater_ray.builtin.selections import All, InstanceTokens
from crater_ray.encode.encoder import Encoder
from crater_ray.errors import BadImage, CraterRayError
from crater_ray.testing import FakeBackbone, fake_tokens
from crater_ray.types import Tokens, TokenShape

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def backbone():
    return TimmBackbone("test_vit", image_size=64, pretrained=False)


@pytest.fixture(scope="module")
def images():
    return torch.from_numpy(np.random.default_rng(0).standard_normal((4, 3, 64, 64)).astype(np.float32))


def encoder(backbone, batch=4, precision="fp32", rerank=None, shortlist=None):
    return Encoder(
        backbone,
        shortlist or Cls(backbone.shape),
        rerank or InstanceTokens(backbone.shape, 8),
        batch=batch,
        precision=precision,
    )


def cosine(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return ((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)).min()


def test_rows_are_what_an_index_stores(backbone, images):
    encode = encoder(backbone)
    rows = encode.rows(encode.tokens(images[:3]), "gallery", 3)
    assert (rows.vectors.shape, rows.vectors.dtype) == ((3, 1, 64), np.float16)
    assert (rows.tokens.shape, rows.tokens.dtype) == ((3, 8, 64), np.float32)
    np.testing.assert_allclose(np.linalg.norm(rows.tokens, axis=-1), 1, atol=1e-5)
    assert rows.bad == {}


def test_tokens_are_padded_to_the_batch_and_patches_rounded(backbone, images):
    tokens = encoder(backbone).tokens(images[:1])
    assert tokens.patches.shape[0] == tokens.cls.shape[0] == tokens.attention.shape[0] == 4
    assert tokens.patches.dtype == tokens.cls.dtype == tokens.attention.dtype == torch.float32
    assert torch.equal(tokens.patches, tokens.patches.half().float())
    assert not torch.equal(tokens.cls, tokens.cls.half().float())
    with pytest.raises(ValueError, match="4 images do not fit a batch of 2"):
        encoder(backbone, batch=2).tokens(images)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_neighbours_in_the_batch_do_not_change_a_row(backbone, images, precision):
    encode = encoder(backbone, precision=precision)
    whole = encode.rows(encode.tokens(images), "gallery", 4)
    padded = encode.rows(encode.tokens(images[:2]), "gallery", 2)
    zeroed = images.clone()
    zeroed[2:] = 0
    skipped = encode.rows(encode.tokens(zeroed), "gallery", 4)
    for other in (padded, skipped):
        assert np.array_equal(whole.vectors[:2], other.vectors[:2])
        assert np.array_equal(whole.tokens[:2], other.tokens[:2])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_another_batch_shape_gives_nearly_the_same_rows(backbone, images, precision):
    four, one = (
        encoder(backbone, 4, precision, All(backbone.shape)),
        encoder(backbone, 1, precision, All(backbone.shape)),
    )
    rows = four.rows(four.tokens(images), "gallery", 4)
    alone = one.rows(one.tokens(images[:1]), "gallery", 1)
    assert cosine(rows.tokens[:1], alone.tokens) > 0.9999
    assert cosine(rows.vectors[:1], alone.vectors) > 0.9999


@pytest.mark.parametrize("has", [True, False])
def test_bf16_is_close_to_fp32_and_the_same_where_the_cpu_has_no_such_products(
    backbone, images, monkeypatch, has
):
    monkeypatch.setattr("crater_ray.precision._cpu_multiplies_bfloat16", lambda: has)
    full, half = (
        encoder(backbone, precision=asked, rerank=All(backbone.shape)) for asked in ("fp32", "bf16")
    )
    exact = full.rows(full.tokens(images), "gallery", 4)
    short = half.rows(half.tokens(images), "gallery", 4)
    assert cosine(exact.tokens, short.tokens) > 0.999
    assert np.array_equal(exact.tokens, short.tokens) is not has


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("n", [4, 3])
def test_a_cached_run_gives_the_same_bytes(backbone, images, precision, n):
    encode = encoder(backbone, precision=precision, shortlist=Mean(backbone.shape))
    fresh = encode.tokens(images[:n])
    kept = encode.to_cache(fresh, n)
    assert {name: array.dtype for name, array in kept.items()} == {
        "patches": np.float16,
        "cls": np.float32,
        "attention": np.float32,
    }
    assert all(len(array) == n for array in kept.values())
    again = encode.from_cache(kept, fresh.grid)
    first, second = encode.rows(fresh, "gallery", n), encode.rows(again, "gallery", n)
    assert np.array_equal(first.vectors, second.vectors)
    assert np.array_equal(first.tokens, second.tokens)


class Odd(FakeBackbone):
    """The pixels' mean sets the tokens: 1 -> NaN patch, 2 -> infinite patch, 3 -> too large for float16."""

    def __call__(self, images):
        tokens = super().__call__(images)
        patches = tokens.patches.clone()
        kind = images.mean((1, 2, 3)).round()
        patches[kind == 1, 0, 0] = torch.nan
        patches[kind == 2, 0, 0] = torch.inf
        patches[kind == 3, 0, 0] = -1e30
        return Tokens(patches, tokens.grid, tokens.cls, tokens.attention)


class Sparse(FakeBackbone):
    """Every other patch of an image is not valid, of a black image none is; their numbers are no numbers."""

    spoil = torch.nan

    def __call__(self, images):
        tokens = super().__call__(images)
        valid = torch.ones(tokens.patches.shape[:2], dtype=torch.bool)
        valid[:, ::2] = False
        valid[images.amax((1, 2, 3)) <= 0] = False
        patches = tokens.patches.masked_fill(~valid[:, :, None], self.spoil)
        attention = tokens.attention.masked_fill(~valid[:, None], self.spoil)
        return Tokens(patches, tokens.grid, tokens.cls, attention, valid=valid)


@pytest.mark.parametrize("shortlist", [Mean, Gem, Cls])
def test_tokens_that_are_not_valid_are_carried_and_have_no_say(shortlist):
    backbone = Sparse()
    encode = encoder(backbone, shortlist=shortlist(backbone.shape), rerank=All(backbone.shape))
    images = torch.randn(3, 3, 32, 32)
    images[2] = -1
    tokens = encode.tokens(images)
    assert tokens.valid[:3].sum(1).tolist() == [8, 8, 0]
    assert tokens.valid.shape == (4, 16)
    assert not tokens.patches[~tokens.valid].any()
    assert not tokens.attention.sum(1)[~tokens.valid].any()
    rows = encode.rows(tokens, "gallery", 3)
    assert rows.bad == {}
    assert rows.tokens.any(2).sum(1).tolist() == [8, 8, 0]
    assert rows.vectors.any(2)[:, 0].tolist() == [True, True, shortlist is Cls]
    kept = encode.to_cache(tokens, 3)
    assert kept["valid"].dtype == np.bool_
    again = encode.rows(encode.from_cache(kept, tokens.grid), "gallery", 3)
    assert np.array_equal(again.tokens, rows.tokens)
    assert np.array_equal(again.vectors, rows.vectors)


@pytest.mark.parametrize(
    ("change", "message"),
    [(lambda valid: valid[:, 1:], r"gave valid \(2, 15\)"), (lambda valid: valid.float(), "not torch.bool")],
)
def test_a_backbone_that_says_wrongly_what_is_valid_is_named(change, message):
    class Wrong(Sparse):
        def __call__(self, images):
            tokens = super().__call__(images)
            return replace(tokens, patches=torch.nan_to_num(tokens.patches), valid=change(tokens.valid))

    with pytest.raises(CraterRayError, match=message):
        encoder(Wrong(), 2).tokens(torch.randn(2, 3, 32, 32))


def test_numbers_that_are_not_finite_make_an_image_bad_and_large_ones_do_not():
    encode = encoder(Odd())
    images = torch.arange(4.0)[:, None, None, None].expand(4, 3, 32, 32) + torch.randn(4, 3, 32, 32) * 0.1
    tokens = encode.tokens(images)
    assert float(tokens.patches[3, 0, 0]) == -65504
    rows = encode.rows(tokens, "gallery", 4)
    assert rows.bad == {1: "the backbone gave NaN", 2: "the backbone gave NaN"}
    assert np.isfinite(rows.tokens).all()
    assert not rows.tokens[1].any()
    assert not rows.vectors[2].any()
    assert encode.rows(tokens, "gallery", 1).bad == {}


class Broken:
    def __init__(self, shape, k=2, stretch=1.0, fill=None):
        self.k, self.dim, self.stretch, self.fill = k, shape.dim, stretch, fill

    def __call__(self, tokens, side):
        rows = torch.nn.functional.normalize(tokens.patches[:, :2], dim=-1) * self.stretch
        if self.fill is not None:
            rows[0] = self.fill
        return rows


def test_an_aggregator_that_breaks_its_promise_is_named():
    backbone = FakeBackbone()
    images = torch.randn(2, 3, 32, 32)
    for broken, message in (
        (Broken(backbone.shape, k=3), r"rerank aggregator .*Broken gave \(2, 2, 16\), but promised"),
        (Broken(backbone.shape, stretch=1.5), "Broken gave a row of length 1.5; its rows must have"),
    ):
        encode = encoder(backbone, 2, rerank=broken)
        with pytest.raises(CraterRayError, match=message):
            encode.rows(encode.tokens(images), "gallery", 2)
    encode = encoder(backbone, 2, rerank=Broken(backbone.shape, fill=torch.nan))
    assert encode.rows(encode.tokens(images), "gallery", 2).bad == {0: "the aggregator gave NaN"}
    encode = encoder(backbone, 2, rerank=Broken(backbone.shape, fill=0.0))
    assert encode.rows(encode.tokens(images), "gallery", 2).bad == {}


def test_a_query_may_have_another_number_of_tokens():
    encode = encoder(FakeBackbone(), 2, rerank=Broken(FakeBackbone().shape, k=3))
    assert encode.rows(encode.tokens(torch.randn(2, 3, 32, 32)), "query", 2).tokens.shape == (2, 2, 16)


def test_one_image_goes_the_same_road():
    backbone = FakeBackbone()
    encode = encoder(backbone)
    image = np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)
    encode.max_pixels = 10_000
    rows = encode.encode_one(image, "query")
    batch = encode.rows(encode.tokens(backbone.preprocess(image)[None]), "query", 1)
    assert np.array_equal(rows.tokens, batch.tokens)
    with pytest.raises(BadImage):
        encode.encode_one(b"no image", "query")
    encode.max_pixels = 100
    with pytest.raises(BadImage):
        encode.encode_one(image, "query")


def test_a_module_is_put_into_evaluation_mode():
    backbone = TimmBackbone("test_resnet", image_size=64, pretrained=False).train()
    encode = encoder(backbone, rerank=All(backbone.shape), shortlist=Mean(backbone.shape))
    assert encode.backbone.training is False


def test_tokens_without_class_token_or_attention_pass():
    shape = TokenShape(8, (2, 2), heads=0, cls=False)
    encode = Encoder(FakeBackbone(8, 2), Mean(shape), All(shape), batch=3)
    kept = encode.to_cache(fake_tokens(shape), 3)
    assert set(kept) == {"patches"}
    assert encode.rows(encode.from_cache(kept, shape.grid), "gallery", 3).tokens.shape == (3, 4, 8)


def test_senseless_settings_are_refused():
    shape = FakeBackbone().shape
    for wrong, message in (({"batch": 0}, "1 or more"), ({"batch": 1, "precision": "fp16"}, "bf16 or fp32")):
        with pytest.raises(ValueError, match=message):
            Encoder(FakeBackbone(), Cls(shape), Cls(shape), **wrong)
