"""The four assignments against NumPy a token at a time, and where they meet."""

from typing import get_args

import numpy as np
import pytest
import torch

from crater_ray.builtin import Assign, Seeds
from crater_ray.builtin.assignments import ASSIGNMENTS
from crater_ray.builtin.selections import All, InstanceTokens, TopK
from crater_ray.testing import check_aggregator, fake_tokens
from crater_ray.types import Tokens, TokenShape

torch.set_num_threads(1)

SHAPE = TokenShape(12, (4, 5), heads=3, cls=True)
DRAWS = np.random.default_rng(4)
# T, D, K
SHAPES = [(1, 3, 1), (2, 5, 1), (20, 12, 20), (50, 6, 16)] + [
    (total := int(DRAWS.integers(2, 30)), int(DRAWS.integers(2, 20)), int(DRAWS.integers(1, total + 1)))
    for _ in range(6)
]


def unit(rows):
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.where(length > 0, rows / np.maximum(length, 1e-12), 0.0)


def slow(name, tokens, seeds, temperature):
    """(K, D) of unit tokens (T, D) and seeds, a token at a time."""
    others = [patch for patch in range(len(tokens)) if patch not in set(seeds)]
    rows = []
    for k, seed in enumerate(seeds):
        shares = []
        for patch in others:
            cosines = np.array([tokens[patch] @ tokens[other] for other in seeds])
            if name == "soft":
                powers = np.exp((cosines - cosines.max()) / temperature)
                shares.append(powers[k] / powers.sum())
            else:
                shares.append(float(np.argmax(cosines) == k))
        gathered = sum((share * tokens[patch] for share, patch in zip(shares, others, strict=True)), 0.0)
        if name == "none":
            gathered = 0.0
        elif name != "mean":
            gathered = gathered / max(sum(shares), 1.0)
        rows.append(unit(tokens[seed] + gathered))
    return np.stack(rows)


@pytest.mark.parametrize("name", get_args(Assign))
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_every_assignment_equals_numpy_a_token_at_a_time(name, temperature):
    random = np.random.default_rng(5)
    for total, dim, k in SHAPES:
        tokens = unit(random.normal(size=(3, total, dim)))
        seeds = np.stack([random.permutation(total)[:k] for _ in range(3)])
        found = ASSIGNMENTS[name](torch.from_numpy(tokens).float(), torch.from_numpy(seeds), temperature)
        for image in range(3):
            np.testing.assert_allclose(
                found[image], slow(name, tokens[image], seeds[image].tolist(), temperature), atol=2e-5
            )


@pytest.mark.parametrize("name", get_args(Assign))
def test_the_aggregator_hands_its_seeds_on(name):
    tokens = fake_tokens(SHAPE)
    aggregator = InstanceTokens(SHAPE, 7, "max", assign=name, temperature=0.3)
    located = TopK(SHAPE, 7, "max").locate(tokens, "gallery").tolist()
    for image, rows in enumerate(aggregator(tokens, "gallery")):
        patches = unit(tokens.patches[image].double().numpy())
        np.testing.assert_allclose(rows, slow(name, patches, located[image], 0.3), atol=1e-5)
    check_aggregator(lambda shape: InstanceTokens(shape, 7, assign=name), SHAPE)


@pytest.mark.parametrize("name", get_args(Assign))
@pytest.mark.parametrize("seeds", get_args(Seeds))
def test_with_every_patch_a_seed_the_rows_are_exactly_the_tokens(name, seeds):
    tokens = fake_tokens(SHAPE)
    aggregator = InstanceTokens(SHAPE, 20, seeds=seeds, assign=name)
    assert torch.equal(aggregator(tokens, "gallery"), All(SHAPE)(tokens, "gallery"))


@pytest.mark.parametrize("name", get_args(Assign))
def test_a_seed_that_gathers_nothing_stays_exactly_itself(name):
    tokens = torch.tensor([[[1.0, 0, 0], [0, 0.6, 0.8], [0.8, 0.6, 0]]])
    rows = ASSIGNMENTS[name](tokens, torch.tensor([[0, 1]]), 1e-4)
    assert torch.equal(rows[0, 1], tokens[0, 1])


@pytest.mark.parametrize("name", ["mean", "residual"])
def test_of_equally_near_seeds_the_first_gathers(name):
    tokens = torch.tensor([[[0, 1.0], [1.0, 0], [0.6, 0.8], [0.8, 0.6], [0.8, 0.6]]])
    rows = ASSIGNMENTS[name](tokens, torch.tensor([[4, 3, 0]]), 1.0)[0]
    assert torch.equal(rows[1], tokens[0, 3])  # the equal of seed 4, which comes first and takes token 1
    assert not torch.equal(rows[0], tokens[0, 4])


def test_soft_becomes_residual_as_the_temperature_falls():
    tokens = fake_tokens(SHAPE)
    hard, nearly = (
        InstanceTokens(SHAPE, 6, assign=name, temperature=1e-4)(tokens, "gallery")
        for name in ("residual", "soft")
    )
    torch.testing.assert_close(hard, nearly, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", get_args(Assign))
def test_zero_tokens_give_finite_rows(name):
    zeros = Tokens(torch.zeros(2, 20, 12), (4, 5), torch.zeros(2, 12), torch.zeros(2, 3, 20))
    assert InstanceTokens(SHAPE, 6, assign=name)(zeros, "query").isfinite().all()
