"""The seven ways to choose seeds, each against NumPy a patch at a time."""

import time
from typing import get_args

import numpy as np
import pytest
import torch

from crater_ray.builtin import Seeds
from crater_ray.builtin.seeds import NEED_ATTENTION, ROUNDS, SEEDS
from crater_ray.builtin.selections import InstanceTokens, TopK
from crater_ray.errors import ConfigError
from crater_ray.testing import check_aggregator, fake_tokens
from crater_ray.types import Tokens, TokenShape

torch.set_num_threads(1)

SHAPE = TokenShape(12, (4, 5), heads=3, cls=True)
NAMES = get_args(Seeds)
# rows, columns, dim, heads, k: random shapes, with the ends among them
DRAWS = np.random.default_rng(3)
SHAPES = [
    (rows, columns, int(DRAWS.integers(2, 30)), int(DRAWS.integers(1, 5)), k)
    for rows, columns in ((1, 1), (1, 7), (6, 2), (4, 5), (6, 7))
    for k in {1, rows * columns, int(DRAWS.integers(1, rows * columns + 1)), max(1, rows * columns // 4)}
]


def unit(rows):
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.where(length > 0, rows / np.maximum(length, 1e-12), 0.0)


def best_first(scores, k):
    return sorted(range(len(scores)), key=lambda patch: (-scores[patch], patch))[:k]


class Slow:
    """One image; patches (T, D) and attention (H, T) float64."""

    def __init__(self, patches, attention, grid, heads):
        self.patches = patches
        self.grid = grid
        self.weight = attention.mean(0) if heads == "mean" else attention.max(0)
        self.length = np.linalg.norm(patches, axis=1)
        self.tokens = unit(patches)

    def attention(self, k):
        return best_first(self.weight, k)

    def norm(self, k):
        return best_first(self.length, k)

    def norm_attention(self, k):
        return best_first(self.length * self.weight, k)

    def farthest(self, k):
        chosen = best_first(self.weight, 1)
        while len(chosen) < k:
            rest = [patch for patch in range(len(self.tokens)) if patch not in chosen]
            likeness = {p: max(self.tokens[p] @ self.tokens[seed] for seed in chosen) for p in rest}
            chosen.append(min(rest, key=lambda patch: (likeness[patch], patch)))
        return chosen

    def clusters(self, centres):
        found = [[] for _ in centres]
        for patch, token in enumerate(self.tokens):
            found[int(np.argmax([token @ centre for centre in centres]))].append(patch)
        return found

    def medoids(self, k):
        centres = [self.tokens[seed] for seed in self.farthest(k)]
        for _ in range(ROUNDS):
            centres = [
                unit(self.tokens[members].sum(0)) if members else centre
                for centre, members in zip(centres, self.clusters(centres), strict=True)
            ]
        near = self.tokens @ np.array(centres).T
        near = near.round(9)  # two members are equally near the centre between them: the first is taken
        chosen = [
            min(members, key=lambda patch: (-near[patch, k], patch)) if members else None
            for k, members in enumerate(self.clusters(centres))
        ]
        left = sorted(set(range(len(self.tokens))) - set(chosen), key=lambda p: (near[p].max(), p))
        return [left.pop(0) if patch is None else patch for patch in chosen]

    def grid_(self, k):
        rows, columns = self.grid
        lines = min(max(round((k * rows / columns) ** 0.5), int(np.ceil(k / columns))), rows)
        shares = np.diff([line * k // lines for line in range(lines + 1)])
        return [
            int((line + 0.5) * rows / lines + 1e-9) * columns + int((place + 0.5) * columns / share + 1e-9)
            for line, share in enumerate(shares)
            for place in range(share)
        ]


def three(rows, columns, dim, heads):
    """Three images of random tokens, as float16 keeps them."""
    tokens = fake_tokens(TokenShape(dim, (rows, columns), heads, True), seed=rows * columns)
    return Tokens(tokens.patches.half().float(), tokens.grid, tokens.cls, tokens.attention)


@pytest.mark.parametrize("heads", ["mean", "max"])
@pytest.mark.parametrize("name", sorted(set(NAMES) - {"random"}))
def test_every_choice_equals_numpy_a_patch_at_a_time(name, heads):
    for rows, columns, dim, count, k in SHAPES:
        tokens = three(rows, columns, dim, count)
        found = SEEDS[name](tokens, k, heads, 0).tolist()
        for image, chosen in enumerate(found):
            slow = Slow(
                tokens.patches[image].double().numpy(),
                tokens.attention[image].double().numpy(),
                tokens.grid,
                heads,
            )
            assert chosen == getattr(slow, "grid_" if name == "grid" else name)(k), (rows, columns, dim, k)


@pytest.mark.parametrize("name", NAMES)
def test_k_patches_and_none_twice(name):
    for rows, columns, dim, count, k in [*SHAPES, (16, 16, 8, 2, 200)]:
        tokens = three(rows, columns, dim, count)
        for kind in (tokens, Tokens(torch.zeros_like(tokens.patches), tokens.grid, None, tokens.attention)):
            for chosen in SEEDS[name](kind, k, "mean", 0).tolist():
                assert len(set(chosen)) == len(chosen) == k
                assert set(chosen) <= set(range(rows * columns))


@pytest.mark.parametrize("name", NAMES)
def test_the_registered_choice_keeps_its_promises_with_another_number_for_queries(name):
    for k, query_k in ((7, None), (7, 3), (3, 20), (20, 1)):
        check_aggregator(lambda shape, k=k, q=query_k: TopK(shape, k, "max", name, q), SHAPE)
        aggregator = InstanceTokens(SHAPE, k, seeds=name, query_k=query_k)
        assert aggregator(fake_tokens(SHAPE), "query").shape == (3, query_k or k, 12)
        assert aggregator.query_k == (query_k or k)


def test_equal_patches_go_by_place():
    flat = torch.ones(1, 6, 4)
    equal = Tokens(flat, (2, 3), None, torch.full((1, 2, 6), 1 / 6))
    for name in ("attention", "norm", "norm_attention", "farthest"):
        assert SEEDS[name](equal, 4, "mean", 0).tolist() == [[0, 1, 2, 3]]
    assert SEEDS["medoids"](equal, 4, "mean", 0).tolist() == [[0, 1, 2, 3]]  # one cluster of all, three empty


def test_farthest_begins_at_the_longest_patch_without_attention():
    patches = torch.eye(4)[None] * torch.tensor([1.0, 1.0, 5.0, 1.0])[:, None]
    assert SEEDS["farthest"](Tokens(patches, (2, 2)), 3, "mean", 0).tolist() == [[2, 0, 1]]


def test_random_is_a_draw_by_content():
    tokens = three(8, 8, 5, 1)
    chosen = SEEDS["random"](tokens, 20, "mean", 0)
    turned = Tokens(tokens.patches.flip(0), tokens.grid, None, None)
    assert SEEDS["random"](turned, 20, "mean", 0).flip(0).tolist() == chosen.tolist()
    assert SEEDS["random"](tokens, 20, "mean", 1).tolist() != chosen.tolist()
    assert len({tuple(row) for row in chosen.tolist()}) == 3
    assert SEEDS["random"](tokens, 5, "mean", 0).tolist() == chosen[:, :5].tolist()
    many = fake_tokens(TokenShape(2, (4, 4), 0, False), images=4000)
    counts = np.bincount(SEEDS["random"](many, 4, "mean", 0).flatten().numpy(), minlength=16)
    assert np.abs(counts - 1000).max() < 130  # 5 sigma: no patch is favoured


def test_the_grid_is_even():
    tokens = fake_tokens(TokenShape(2, (16, 16), 0, False), images=1)
    for k, step in ((1, 16), (4, 8), (16, 4), (64, 2), (256, 1)):
        lines = range(step // 2, 16, step)
        expected = [row * 16 + column for row in lines for column in lines]
        assert SEEDS["grid"](tokens, k, "mean", 0)[0].tolist() == expected


def test_only_attention_needs_attention():
    bare = TokenShape(12, (4, 5), heads=0, cls=False)
    for name in NAMES:
        if name in NEED_ATTENTION:
            with pytest.raises(
                ConfigError, match=f"'{name}' are chosen by class-to-patch attention, but the"
            ):
                TopK(bare, 4, seeds=name)
            with pytest.raises(ValueError, match="these Tokens have none"):
                SEEDS[name](fake_tokens(bare), 4, "mean", 0)
        else:
            check_aggregator(lambda shape, name=name: TopK(shape, 4, seeds=name), bare)


def test_more_seeds_than_tokens_are_refused_for_queries_too():
    with pytest.raises(ConfigError, match="query_k is 21, but the backbone gives 20 tokens an image; use 20"):
        TopK(SHAPE, 4, query_k=21)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_takes_milliseconds(name):
    tokens = fake_tokens(TokenShape(384, (16, 16), 6, True), images=8)
    aggregator = InstanceTokens(tokens.shape, 64, seeds=name)
    seconds = []
    for _ in range(4):
        start = time.thread_time()
        aggregator(tokens, "gallery")
        seconds.append(time.thread_time() - start)
    assert min(seconds) / 8 < (0.015 if name == "medoids" else 0.004)
