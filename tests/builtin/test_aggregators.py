"""Poolings and selections against slow NumPy twins."""

import numpy as np
import pytest
import torch

from crater_ray.builtin.poolings import Cls, Gem, Max, Mean
from crater_ray.builtin.selections import All, InstanceTokens, TopK
from crater_ray.errors import ConfigError
from crater_ray.plugins import Located, registry
from crater_ray.testing import check_aggregator, fake_tokens
from crater_ray.types import Tokens, TokenShape

torch.set_num_threads(1)

SHAPE = TokenShape(12, (4, 5), heads=3, cls=True)
BARE = TokenShape(12, (4, 5), heads=0, cls=False)


def unit(rows):
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.where(length > 0, rows / np.maximum(length, 1e-12), 0.0)


def slow_seeds(attention, k, heads):
    score = attention.mean(0) if heads == "mean" else attention.max(0)
    return sorted(range(len(score)), key=lambda patch: (-score[patch], patch))[:k]


def slow_instance_tokens(patches, seeds):
    """Steps 2 and 3 of CraterBench-R, a token at a time."""
    tokens = unit(patches)
    clusters = {seed: [] for seed in seeds}
    for patch in range(len(tokens)):
        if patch not in clusters:
            clusters[max(seeds, key=lambda seed: tokens[patch] @ tokens[seed])].append(tokens[patch])
    return unit(
        np.stack(
            [tokens[seed] + (np.mean(members, 0) if members else 0.0) for seed, members in clusters.items()]
        )
    )


@pytest.mark.parametrize("name", ["cls", "mean", "max", "gem", "all"])
def test_the_registered_name_builds_and_keeps_its_promises(name):
    known = registry()
    check_aggregator(lambda shape: known.build(known.ref("aggregator", name), shape), SHAPE)


@pytest.mark.parametrize("name", ["topk", "instance_tokens"])
@pytest.mark.parametrize("options", [{"k": 1}, {"k": 7}, {"k": 20}, {"k": 7, "heads": "max"}])
def test_selections_keep_their_promises(name, options):
    known = registry()
    check_aggregator(lambda shape: known.build(known.ref("aggregator", name, options), shape), SHAPE)


def test_poolings_equal_numpy():
    tokens = fake_tokens(SHAPE)
    patches = tokens.patches.double().numpy()
    expected = {
        Cls(SHAPE): tokens.cls.double().numpy(),
        Mean(SHAPE): patches.mean(1),
        Max(SHAPE): patches.max(1),
        Gem(SHAPE): (np.maximum(patches, 1e-6) ** 3).mean(1) ** (1 / 3),
        Gem(SHAPE, p=5.5, eps=0.01): (np.maximum(patches, 0.01) ** 5.5).mean(1) ** (1 / 5.5),
    }
    for pooling, vectors in expected.items():
        assert (pooling.k, pooling.dim) == (1, 12)
        np.testing.assert_allclose(pooling(tokens, "gallery")[:, 0], unit(vectors), atol=1e-5)


def test_gem_runs_from_mean_to_max_and_survives_large_p():
    positive = fake_tokens(SHAPE)
    positive = Tokens(positive.patches.abs() + 0.1, positive.grid)
    np.testing.assert_allclose(Gem(BARE, p=1.0)(positive, "query"), Mean(BARE)(positive, "query"), atol=1e-5)
    np.testing.assert_allclose(Gem(BARE, p=500.0)(positive, "query"), Max(BARE)(positive, "query"), atol=1e-2)


def test_all_is_every_patch_in_order():
    tokens = fake_tokens(BARE)
    aggregator = All(BARE)
    assert (aggregator.k, aggregator.dim) == (20, 12)
    np.testing.assert_allclose(aggregator(tokens, "gallery"), unit(tokens.patches.numpy()), atol=1e-6)
    assert aggregator.locate(tokens, "gallery").tolist() == [list(range(20))] * 3


@pytest.mark.parametrize("heads", ["mean", "max"])
@pytest.mark.parametrize("k", [1, 7, 20])
def test_topk_is_the_patches_of_highest_attention(k, heads):
    tokens = fake_tokens(SHAPE)
    aggregator = TopK(SHAPE, k, heads)
    located = aggregator.locate(tokens, "query").numpy()
    rows = aggregator(tokens, "query").numpy()
    for image in range(3):
        seeds = slow_seeds(tokens.attention[image].numpy(), k, heads)
        assert located[image].tolist() == seeds
        np.testing.assert_allclose(rows[image], unit(tokens.patches[image].numpy()[seeds]), atol=1e-6)


def test_equal_attention_goes_by_patch():
    tokens = fake_tokens(SHAPE)
    flat = torch.zeros(3, 3, 20)
    flat[:, :, [3, 11, 17]] = 1.0
    tied = Tokens(tokens.patches, tokens.grid, tokens.cls, flat)
    assert TopK(SHAPE, 6).locate(tied, "gallery").tolist() == [[3, 11, 17, 0, 1, 2]] * 3


@pytest.mark.parametrize("heads", ["mean", "max"])
@pytest.mark.parametrize("k", [1, 4, 13, 20])
def test_instance_tokens_equal_the_paper_a_token_at_a_time(k, heads):
    tokens = fake_tokens(SHAPE, images=4)
    aggregator = InstanceTokens(SHAPE, k, heads)
    rows = aggregator(tokens, "gallery").numpy()
    for image in range(4):
        seeds = slow_seeds(tokens.attention[image].numpy(), k, heads)
        assert aggregator.locate(tokens, "gallery")[image].tolist() == seeds
        np.testing.assert_allclose(
            rows[image], slow_instance_tokens(tokens.patches[image].numpy(), seeds), atol=1e-5
        )


def test_with_every_token_a_seed_instance_tokens_are_exactly_the_tokens():
    tokens = fake_tokens(SHAPE)
    aggregator = InstanceTokens(SHAPE, 20)
    located = aggregator.locate(tokens, "gallery")
    everything = All(SHAPE)(tokens, "gallery")
    for image in range(3):
        assert torch.equal(aggregator(tokens, "gallery")[image], everything[image][located[image]])


def test_a_seed_nobody_is_nearest_to_stays_itself():
    shape = TokenShape(3, (2, 2), heads=1, cls=True)
    patches = torch.tensor([[[2.0, 0, 0], [0, 0, 5.0], [1.0, 1.0, 0], [3.0, 0.5, 0]]])
    tokens = Tokens(patches, (2, 2), torch.ones(1, 3), torch.tensor([[[0.5, 0.4, 0.05, 0.05]]]))
    rows = InstanceTokens(shape, 2)(tokens, "gallery")[0].numpy()
    mean = (unit(np.array([1.0, 1.0, 0])) + unit(np.array([3.0, 0.5, 0]))) / 2
    np.testing.assert_allclose(rows, [unit(np.array([1.0, 0, 0]) + mean), [0, 0, 1]], atol=1e-6)


@pytest.mark.parametrize("factory", [All, TopK, InstanceTokens, Mean, Max, Cls])
def test_zero_tokens_give_finite_rows(factory):
    shape = TokenShape(12, (8, 8), heads=3, cls=True)
    zeros = Tokens(torch.zeros(2, 64, 12), (8, 8), torch.zeros(2, 12), torch.zeros(2, 3, 64))
    assert factory(shape)(zeros, "gallery").isfinite().all()


def test_only_those_with_places_are_located():
    assert all(
        isinstance(factory(TokenShape(12, (8, 8), 3, True)), Located)
        for factory in (All, TopK, InstanceTokens)
    )
    assert not any(isinstance(factory(SHAPE), Located) for factory in (Cls, Mean, Max, Gem))


@pytest.mark.parametrize("factory", [TopK, InstanceTokens])
def test_more_seeds_than_tokens_are_refused(factory):
    with pytest.raises(
        ConfigError, match="k is 64, but the backbone gives 20 tokens an image; use 20 or less"
    ):
        factory(SHAPE)


def test_what_a_backbone_does_not_give_is_asked_for_in_vain():
    with pytest.raises(ConfigError, match=r"'cls' needs a class token.*use mean, max or gem"):
        Cls(BARE)
    for factory in (TopK, InstanceTokens):
        with pytest.raises(ConfigError, match="attention, but the backbone gives none"):
            factory(BARE, k=4)
    check_aggregator(All, BARE)
    check_aggregator(Gem, BARE)
    check_aggregator(Mean, BARE)
