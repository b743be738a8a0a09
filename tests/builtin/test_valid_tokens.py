"""Patches that are not valid have no part in what aggregators make, whatever numbers they hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from crater_ray.builtin.poolings import Gem, Max, Mean, Whitened
from crater_ray.builtin.seeds import SEEDS
from crater_ray.builtin.selections import All, InstanceTokens, TopK
from crater_ray.builtin.vlad import Vlad
from crater_ray.builtin.whitened_tokens import WhitenedTokens
from crater_ray.plugins import Fitted
from crater_ray.testing import fake_tokens
from crater_ray.types import Tokens, TokenShape

SHAPE = TokenShape(12, (5, 6), heads=2, cls=True)
MADE: dict[str, Any] = {
    "all": All,
    "mean": Mean,
    "max": Max,
    "gem": Gem,
    "whitened": lambda shape: Whitened(shape, of="mean", dim=4),
    "vlad": lambda shape: Vlad(shape, clusters=4),
    "whitened vlad": lambda shape: Vlad(shape, clusters=4, whiten=3),
    "whitened tokens": lambda shape: WhitenedTokens(shape, of="all"),
    "farthest whitened": WhitenedTokens,
    **{f"topk {seeds}": lambda shape, seeds=seeds: TopK(shape, 8, seeds=seeds) for seeds in SEEDS},
    **{
        f"instance {seeds} {assign}": lambda shape, seeds=seeds, assign=assign: InstanceTokens(
            shape, 8, seeds=seeds, assign=assign
        )
        for seeds in ("attention", "medoids", "grid")
        for assign in ("mean", "residual", "soft")
    },
}
MADE["farthest whitened"] = lambda shape: WhitenedTokens(shape, of_options={"k": 8, "seeds": "farthest"})
POOLED = ("mean", "max", "gem", "whitened", "vlad", "whitened vlad")


def sparse(images: int = 6, seed: int = 0) -> Tokens:
    return fake_tokens(SHAPE, images, seed, sparse=True)


def spoilt(tokens: Tokens, value: float) -> Tokens:
    """With numbers where nothing is valid."""
    assert tokens.valid is not None
    patches = tokens.patches.masked_fill(~tokens.valid[:, :, None], value)
    attention = (
        None if tokens.attention is None else tokens.attention.masked_fill(~tokens.valid[:, None], 9.0)
    )
    return replace(tokens, patches=patches, attention=attention)


def built(name: str, change: Any = lambda tokens: tokens) -> Any:
    made = MADE[name](SHAPE)
    if isinstance(made, Fitted):
        made.load(made.fit((change(sparse(8, seed)) for seed in range(1, 5)), 0))
    return made


def one(tokens: Tokens, image: int, keep: torch.Tensor) -> Tokens:
    """An image as if it had no more patches than those it keeps."""
    rows = (
        None if x is None else x[image, :, keep][None] for x in (tokens.attention, tokens.attention_column)
    )
    cls = None if tokens.cls is None else tokens.cls[image][None]
    return Tokens(tokens.patches[image, keep][None], (1, int(keep.sum())), cls, *rows)


@pytest.mark.parametrize("value", [3.0, -1e4, torch.nan])
@pytest.mark.parametrize("name", MADE)
def test_what_is_not_valid_has_no_say(name: str, value: float) -> None:
    """Not where it is learnt from, nor where it is made of."""
    rows = built(name)(sparse(), "gallery")
    again = built(name, lambda tokens: spoilt(tokens, value))(spoilt(sparse(), value), "gallery")
    assert rows.isfinite().all()
    assert torch.equal(again, rows)


@pytest.mark.parametrize("name", MADE)
def test_an_image_without_a_token_is_zeros(name: str) -> None:
    rows = built(name)(sparse(), "gallery")
    assert not rows[-1].any()
    assert rows[:-1].any(2).any(1).all()
    lengths = rows.norm(dim=2)
    assert (((lengths - 1).abs() < 1e-3) | (lengths == 0)).all()


@pytest.mark.parametrize("name", POOLED)
def test_a_pooling_is_that_of_the_patches_that_are_valid(name: str) -> None:
    tokens, made = sparse(), built(name)
    assert tokens.valid is not None
    rows = made(tokens, "gallery")
    for image in range(5):
        alone = made(one(tokens, image, tokens.valid[image]), "gallery")
        torch.testing.assert_close(rows[image], alone[0], atol=2e-5, rtol=0)


@pytest.mark.parametrize("seeds", SEEDS)
def test_seeds_are_valid_as_long_as_there_are_any(seeds: str) -> None:
    tokens = spoilt(sparse(8), 5.0)
    assert tokens.valid is not None
    for k in (1, 7, 20, 29):
        located = TopK(SHAPE, k, seeds=seeds).locate(tokens, "gallery")
        chosen = tokens.valid.gather(1, located).sum(1)
        assert chosen.tolist() == tokens.valid.sum(1).clamp(max=k).tolist()
        assert all(len(set(row)) == k for row in located.tolist())


@pytest.mark.parametrize("assign", ["mean", "residual", "soft"])
def test_instance_tokens_gather_valid_patches_alone(assign: str) -> None:
    tokens = sparse()
    assert tokens.valid is not None
    rows = InstanceTokens(SHAPE, 5, assign=assign)(tokens, "gallery")
    for image in range(5):
        keep = tokens.valid[image]
        shape = TokenShape(12, (1, int(keep.sum())), heads=2, cls=True)
        alone = InstanceTokens(shape, 5, assign=assign)(one(tokens, image, keep), "gallery")
        torch.testing.assert_close(rows[image], alone[0], atol=1e-5, rtol=0)


def test_seeds_that_are_not_there_gather_nothing() -> None:
    """Three valid patches of eight seeds: the rest are zeros, and each patch is its own."""
    tokens = sparse()
    assert tokens.valid is not None
    valid = torch.zeros_like(tokens.valid)
    valid[:, [3, 11, 20]] = True
    few = replace(fake_tokens(SHAPE, 6), valid=valid)
    for seeds in SEEDS:
        rows = InstanceTokens(SHAPE, 8, seeds=seeds)(few, "gallery")
        assert rows.any(2).sum(1).tolist() == [3] * 6
        every = All(SHAPE)(few, "gallery")[:, [3, 11, 20]]
        assert ((rows @ every.transpose(1, 2)).amax(1) > 1 - 1e-5).all()


def test_a_whitening_of_images_learns_from_those_that_have_a_token() -> None:
    tokens = [sparse(8, seed) for seed in range(1, 5)]
    with_some = [replace(t, patches=t.patches[:-1], cls=None, attention=None, attention_column=None,
                         valid=t.valid[:-1]) for t in tokens]  # fmt: skip
    made = Whitened(SHAPE, of="mean", dim=4)
    of_all, of_some = made.fit(iter(tokens), 0), made.fit(iter(with_some), 0)
    assert all(np.array_equal(of_all[key], of_some[key]) for key in of_all)
