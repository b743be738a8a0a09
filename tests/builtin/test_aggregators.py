"""Poolings and selections against slow NumPy twins."""

import numpy as np
import pytest
import torch

from crater_ray.builtin.backbones.timm_model import TimmBackbone
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
@pytest.mark.parametrize(
    "options", [{"k": 1}, {"k": 20}, {"k": 7, "heads": "max", "seeds": "random", "draw": 3, "query_k": 5}]
)
def test_selections_keep_their_promises(name, options):
    known = registry()
    check_aggregator(lambda shape: known.build(known.ref("aggregator", name, options), shape), SHAPE)


def test_options_that_came_later_leave_the_configs_of_older_indexes_alone():
    known = registry()
    assert known.ref("aggregator", "instance_tokens").options == {"k": 64, "heads": "mean"}
    given = {"seeds": "medoids", "query_k": 9, "draw": 1, "assign": "soft", "temperature": 0.2}
    assert known.ref("aggregator", "instance_tokens", given).options == {"k": 64, "heads": "mean", **given}
    with pytest.raises(ConfigError, match="unknown option 'seed'; did you mean 'seeds'"):
        known.ref("aggregator", "topk", {"seed": "norm"})
    with pytest.raises(ConfigError, match="seeds: input should be 'attention', 'norm_attention'"):
        known.ref("aggregator", "topk", {"seeds": "best"})


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


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_a_cnn_has_gap_and_gem_and_seeds_by_everything_but_attention(name):
    backbone = TimmBackbone(name, image_size=96, pretrained=False)
    images = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        tokens = backbone(images)
        maps = backbone.model.forward_features(images)
        gap = backbone.model.forward_head(maps, pre_logits=True)  # timm's own
        gem = maps.double().clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)
        np.testing.assert_allclose(Mean(backbone.shape)(tokens, "query")[:, 0], unit(gap.numpy()), atol=1e-5)
        np.testing.assert_allclose(Gem(backbone.shape)(tokens, "query")[:, 0], unit(gem.numpy()), atol=1e-5)
        assert InstanceTokens(backbone.shape, 4, seeds="farthest")(tokens, "gallery").shape[:2] == (2, 4)
    with pytest.raises(ConfigError, match="needs a class token"):
        Cls(backbone.shape)
