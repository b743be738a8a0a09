"""Whitened tokens: the fit and every row against NumPy, and what they bring to a codec."""

import numpy as np
import pytest
import torch

from crater_ray.builtin.selections import InstanceTokens
from crater_ray.builtin.whitened_tokens import FLOOR, WhitenedTokens
from crater_ray.errors import ConfigError
from crater_ray.plugins import registry
from crater_ray.search.codecs import codec
from crater_ray.search.kernel import score
from crater_ray.testing import check_aggregator, fake_tokens
from crater_ray.types import Tokens, TokenShape

torch.set_num_threads(1)

SHAPE = TokenShape(12, (4, 5), heads=3, cls=True)


def unit(rows):
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.where(length > 0, rows / np.maximum(length, 1e-12), 0.0)


def samples(count=4):
    """Tokens that share much, as those of a ViT do."""
    shared = 3 * torch.from_numpy(np.random.default_rng(9).standard_normal(SHAPE.dim).astype(np.float32))
    drawn = [fake_tokens(SHAPE, 6, seed) for seed in range(count)]
    return [Tokens(one.patches + shared, one.grid, one.cls, one.attention) for one in drawn]


def fitted(**options):
    made = WhitenedTokens(SHAPE, **options)
    made.load(made.fit(iter(samples()), seed=0))
    return made


def slow_whitened(patches, power, dim):
    """(T, D) -> (T, dim): by SVD of all tokens at once."""
    rows = unit(np.concatenate([one.patches.double().numpy().reshape(-1, SHAPE.dim) for one in samples()]))
    centre = rows.mean(0)
    _, singular, axes = np.linalg.svd(rows - centre, full_matrices=False)
    variances = singular**2 / len(rows)
    scales = (variances + FLOOR * variances.mean()) ** -power
    return unit((unit(patches) - centre) @ (axes * scales[:, None])[:dim].T)


@pytest.mark.parametrize(
    ("of", "options", "dim"),
    [
        ("instance_tokens", {"k": 5}, None),
        ("instance_tokens", {"k": 20}, 6),
        ("topk", {"k": 3}, 4),
        ("all", {}, None),
        ("mean", {}, 6),
    ],
)
def test_the_registered_name_builds_and_keeps_its_promises(of, options, dim):
    known = registry()
    ref = known.ref("aggregator", "whitened_tokens", {"of": of, "of_options": options, "dim": dim})
    check_aggregator(lambda shape: known.build(ref, shape), SHAPE)


@pytest.mark.parametrize(("power", "dim"), [(0.0, 12), (0.25, 12), (0.5, 12), (0.5, 5)])
def test_rows_have_the_products_that_numpy_gives(power, dim):
    tokens = samples(1)[0]
    rows = fitted(of="all", dim=dim, power=power)(tokens, "gallery").numpy()
    for row, patches in zip(rows, tokens.patches.double().numpy(), strict=True):
        slow = slow_whitened(patches, power, dim)
        np.testing.assert_allclose(row @ row.T, slow @ slow.T, atol=1e-4)  # axes have no sign


def test_the_inner_aggregator_sees_whitened_tokens_of_the_old_lengths():
    tokens = samples(1)[0]
    made = fitted(of="instance_tokens", of_options={"k": 5})
    whole = fitted(of="all")(tokens, "gallery")
    lengths = tokens.patches.norm(dim=-1, keepdim=True)
    alone = InstanceTokens(SHAPE, k=5)
    seen = Tokens(whole * lengths, tokens.grid, tokens.cls, tokens.attention)
    for side in ("gallery", "query"):
        torch.testing.assert_close(made(tokens, side), alone(seen, side))
        assert torch.equal(made.locate(tokens, side), alone.locate(tokens, side))


def test_what_all_tokens_share_is_gone_and_axes_count_alike():
    rows = torch.cat([fitted(of="all")(one, "gallery") for one in samples()]).flatten(0, 1).numpy()
    before = unit(np.concatenate([one.patches.numpy().reshape(-1, SHAPE.dim) for one in samples()]))
    assert np.linalg.norm(before.mean(0)) > 0.8
    assert np.linalg.norm(rows.mean(0)) < 0.1
    spread = np.linalg.eigvalsh(np.cov(rows.T))
    assert spread[-1] < 2 * spread[0]


def test_a_zero_token_stays_zero_and_one_that_is_not_finite_teaches_nothing():
    tokens = samples(1)[0]
    patches = tokens.patches.clone()
    patches[0, 3] = 0.0
    row = fitted(of="all")(Tokens(patches, tokens.grid, tokens.cls, tokens.attention), "gallery")
    assert row[0, 3].abs().max() == 0
    patches[1:] = torch.nan
    spoilt = Tokens(patches, tokens.grid, tokens.cls, tokens.attention)
    made = WhitenedTokens(SHAPE, of="all")
    learnt = made.fit(iter([*samples(), spoilt]), seed=0)
    assert all(np.isfinite(array).all() for array in learnt.values())


def test_only_what_the_inner_one_can_locate_is_located():
    tokens = samples(1)[0]
    assert fitted(of="topk", of_options={"k": 2}).locate(tokens, "gallery") is not None
    assert fitted(of="mean").locate(tokens, "gallery") is None


def test_int8_keeps_their_order():
    made = fitted(of_options={"k": 4})
    gallery = torch.cat([made(fake_tokens(SHAPE, 50, seed), "gallery") for seed in (7, 8)]).numpy()
    queries = gallery[:20] + 0.1 * np.random.default_rng(0).standard_normal((20, 4, 12)).astype(np.float32)
    queries = unit(queries).astype(np.float32)
    exact = np.einsum("bqd,nkd->bnqk", queries, gallery).max(3).mean(2)
    codes, scales = codec("int8").encode(gallery)
    near = score(queries, codes, scales, codec="int8", k=4, dim=12)
    assert np.abs(near - exact).max() < 0.01
    assert (exact[np.arange(20), near.argmax(1)] > exact.max(1) - 0.01).all()


def test_a_sum_over_batches_is_a_sum_over_images():
    one = torch.cat([sample.patches for sample in samples()])
    together = WhitenedTokens(SHAPE, of="all").fit(iter([Tokens(one, SHAPE.grid)]), seed=0)
    apart = WhitenedTokens(SHAPE, of="all").fit(iter(samples()), seed=0)
    np.testing.assert_allclose(together["centre"], apart["centre"], atol=1e-6)
    np.testing.assert_allclose(
        together["axes"].T @ together["axes"], apart["axes"].T @ apart["axes"], rtol=1e-3, atol=1e-3
    )


def test_it_says_what_to_do():
    with pytest.raises(ConfigError, match="dim is 13, but the backbone gives 12"):
        WhitenedTokens(SHAPE, dim=13)
    with pytest.raises(ConfigError, match="did you mean 'k'"):
        WhitenedTokens(SHAPE, of_options={"kk": 4})
    with pytest.raises(ValueError, match="fit and load come first"):
        WhitenedTokens(SHAPE, of_options={"k": 4})(samples(1)[0], "gallery")
    with pytest.raises(ValueError, match="no image to learn from"):
        WhitenedTokens(SHAPE, of_options={"k": 4}).fit(iter([]), seed=0)


def test_tokens_of_zeros_stand_for_nothing():
    """They teach nothing, and stay zeros: an image may have fewer features than a backbone has places."""
    padded = []
    for one in samples():
        patches = torch.cat([one.patches, torch.zeros_like(one.patches)], 1)
        padded.append(Tokens(patches, (8, 5)))
    plain, more = (WhitenedTokens(TokenShape(12, (rows, 5), 0, False), of="all") for rows in (4, 8))
    of_plain = plain.fit((Tokens(one.patches, one.grid) for one in samples()), seed=0)
    of_more = more.fit(iter(padded), seed=0)
    assert all(np.allclose(of_plain[name], of_more[name], atol=1e-6) for name in of_plain)
    more.load(of_more)
    rows = more(padded[0], "gallery")
    assert not rows[:, 20:].any()
    assert torch.allclose(rows[:, :20].norm(dim=-1), torch.ones(1), atol=1e-5)
