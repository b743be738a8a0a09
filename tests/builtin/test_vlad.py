"""What is learnt from a sample: VLAD's centres and PCA-whitening, against NumPy."""

import numpy as np
import pytest
import torch

from crater_ray.builtin.learnt import kept, whitened, whitening
from crater_ray.builtin.poolings import Cls, Gem, Max, Mean, Whitened
from crater_ray.builtin.vlad import Vlad, vlad, vocabulary
from crater_ray.errors import ConfigError
from crater_ray.plugins import Fitted, registry
from crater_ray.testing import check_aggregator, fake_tokens
from crater_ray.types import Tokens, TokenShape

torch.set_num_threads(1)

SHAPE = TokenShape(12, (4, 5), heads=3, cls=True)


def unit(rows):
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.where(length > 0, rows / np.maximum(length, 1e-12), 0.0)


def slow_vlad(patches, centres):
    """Of one image (T, D)."""
    sums = np.zeros(centres.shape)
    for token in unit(patches):
        nearest = int(np.argmax([token @ centre for centre in centres]))
        sums[nearest] += token - centres[nearest]
    return unit(unit(sums).reshape(-1))


def slow_whitened(sample, vectors, dim):
    """By SVD, signs and all that follows left to the dot products."""
    centre = sample.mean(0)
    _, singular, axes = np.linalg.svd(sample - centre, full_matrices=False)
    return (vectors - centre) @ axes[:dim].T / (singular[:dim] / np.sqrt(len(sample)))


def a_sample(images=40, shape=SHAPE):
    return [fake_tokens(shape, images // 4, seed) for seed in range(1, 5)]


def learnt(aggregator, sample):
    assert isinstance(aggregator, Fitted)
    aggregator.load(aggregator.fit(iter(sample), seed=0))
    return aggregator


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vlad", {"clusters": 5}),
        ("vlad", {"clusters": 5, "whiten": 7}),
        *(("whitened", {"of": of, "dim": 6}) for of in ("cls", "mean", "max", "gem")),
    ],
)
def test_the_registered_name_builds_and_keeps_its_promises(name, options):
    known = registry()
    check_aggregator(lambda shape: known.build(known.ref("aggregator", name, options), shape), SHAPE)


@pytest.mark.parametrize("clusters", [1, 3, 16])
def test_vlad_equals_numpy_a_token_at_a_time(clusters):
    tokens = fake_tokens(SHAPE)
    aggregator = Vlad(SHAPE, clusters)
    state = aggregator.fit(iter(a_sample()), seed=0)
    np.testing.assert_allclose(np.linalg.norm(state["centres"], axis=1), 1, atol=1e-5)
    aggregator.load(state)
    expected = [slow_vlad(patches, state["centres"]) for patches in tokens.patches.double().numpy()]
    np.testing.assert_allclose(aggregator(tokens, "query")[:, 0], expected, atol=2e-5)


def test_whitened_vlad_is_vlad_whitened():
    sample, tokens = a_sample(), fake_tokens(SHAPE, 6)
    aggregator = learnt(Vlad(SHAPE, 4, whiten=9), sample)
    centres = aggregator.fit(iter(sample), seed=0)["centres"]
    learnt_from, asked = (
        np.stack([slow_vlad(patches, centres) for patches in many.half().double().numpy()])
        for many in (torch.cat([tokens.patches for tokens in sample]), tokens.patches)
    )
    expected = unit(slow_whitened(learnt_from, asked, 9))
    rows = aggregator(Tokens(tokens.patches.half(), tokens.grid), "gallery")[:, 0].numpy()
    np.testing.assert_allclose(rows @ rows.T, expected @ expected.T, atol=1e-3)


@pytest.mark.parametrize(("count", "dim"), [(300, 8), (300, 20), (15, 8), (21, 20)])
def test_whitening_equals_svd_with_few_vectors_and_with_many(count, dim):
    random = np.random.default_rng(count)
    mixing = np.linalg.qr(random.normal(size=(20, 20)))[0] * np.geomspace(1, 0.05, 20)
    sample = (random.normal(size=(count, 20)) @ mixing.T + 3).astype(np.float32)
    state = whitening(sample, dim)
    rows = whitened(
        torch.from_numpy(sample), {name: torch.from_numpy(array) for name, array in state.items()}
    ).numpy()
    expected = slow_whitened(sample.astype(np.float64), sample, dim)
    np.testing.assert_allclose(rows @ rows.T, expected @ expected.T, atol=0.02)
    np.testing.assert_allclose(np.cov(rows.T, bias=True), np.eye(dim), atol=0.01)


@pytest.mark.parametrize("of", ["cls", "mean", "max", "gem"])
def test_whitened_is_the_pooling_whitened(of):
    pooling = {"cls": Cls, "mean": Mean, "max": Max, "gem": Gem}[of](SHAPE)
    sample, tokens = a_sample(), fake_tokens(SHAPE, 6)
    rows = learnt(Whitened(SHAPE, of, 5), sample)(tokens, "gallery")[:, 0].numpy()
    before = np.concatenate([pooling(some, "gallery")[:, 0].double() for some in sample])
    expected = unit(slow_whitened(before, pooling(tokens, "gallery")[:, 0].double().numpy(), 5))
    np.testing.assert_allclose(rows @ rows.T, expected @ expected.T, atol=1e-4)


def test_centres_are_the_directions_that_tokens_come_from():
    random = np.random.default_rng(0)
    directions = unit(random.normal(size=(6, 24)))
    tokens = directions[random.integers(6, size=600)] + 0.05 * random.normal(size=(600, 24))
    lengths = random.uniform(0.1, 9, (600, 1))  # cosine: these do not matter
    centres = vocabulary((tokens * lengths).astype(np.float16), 24, seed=0)
    assert (centres @ directions.T).max(0).min() > 0.99


def test_a_centre_s_tokens_are_bounded_and_the_kept_images_drawn_from_all():
    shape = TokenShape(2, (1, 2), 0, False)
    stream = [Tokens(torch.full((10, 2, 2), float(at)), shape.grid) for at in range(100)]
    few = kept(iter(stream), 0, most_bytes=50 * 8)
    assert few.shape == (50, 2, 2)
    assert few.mean() == pytest.approx(49.5, abs=15)
    assert len(np.unique(few)) > 25
    assert np.array_equal(few, kept(iter(stream), 0, most_bytes=50 * 8))
    assert not np.array_equal(few, kept(iter(stream), 1, most_bytes=50 * 8))
    assert kept(iter(stream), 0, most_bytes=1).shape == (1, 2, 2)
    assert kept(iter(stream), 0).shape == (1000, 2, 2)
    with pytest.raises(ValueError, match="no image"):
        kept(iter(()), 0)


def test_images_that_are_not_finite_teach_nothing():
    sample = a_sample()
    sample[1].patches[3, 2, 1] = torch.nan
    assert kept(iter(sample), 0).shape[0] == 39
    for aggregator in (Vlad(SHAPE, 3, whiten=4), Whitened(SHAPE, "mean", 4)):
        assert learnt(aggregator, sample)(fake_tokens(SHAPE), "gallery").isfinite().all()


def test_what_cannot_be_learnt_is_said():
    with pytest.raises(ConfigError, match="whiten is 61, but 5 clusters of 12 give 60 dimensions"):
        Vlad(SHAPE, 5, whiten=61)
    with pytest.raises(ConfigError, match="dim is 13, but the backbone gives 12"):
        Whitened(SHAPE, "mean", 13)
    with pytest.raises(ConfigError, match="clusters is 900, but the sample has 800 tokens"):
        Vlad(SHAPE, 900).fit(iter(a_sample()), 0)
    with pytest.raises(
        ConfigError, match=r"takes more than 40 images, but the sample has 40; raise \[index\]"
    ):
        Vlad(SHAPE, 4, whiten=40).fit(iter(a_sample()), 0)
    with pytest.raises(ConfigError, match="needs a class token"):
        Whitened(TokenShape(12, (4, 5), 0, False), dim=4)
    for aggregator in (Vlad(SHAPE, 4), Whitened(SHAPE, "mean", 4)):
        with pytest.raises(ValueError, match="fit and load come first"):
            aggregator(fake_tokens(SHAPE), "gallery")


def test_zero_tokens_give_finite_rows():
    zeros = Tokens(torch.zeros(2, 20, 12), (4, 5), torch.zeros(2, 12))
    for aggregator in (Vlad(SHAPE, 3), Vlad(SHAPE, 3, whiten=4), Whitened(SHAPE, "gem", 4)):
        assert learnt(aggregator, a_sample())(zeros, "gallery").isfinite().all()
    assert vlad(torch.zeros(1, 2, 3), torch.eye(3)).isfinite().all()
