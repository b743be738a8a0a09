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
