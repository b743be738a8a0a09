"""R-MAC, SPoC and CroW against slow, obvious NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from crater_ray.testing import check_aggregator, fake_tokens
from crater_ray.types import Tokens, TokenShape
from crater_ray_supscene.aggregators.regional import Crow, RMac, Spoc, regions

torch.set_num_threads(1)
SHAPE = TokenShape(6, (3, 5), heads=3, cls=True)


def unit(row: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(row)
    return row / length if length else row


def images(sparse: bool = False) -> tuple[Tokens, list[dict[tuple[int, int], np.ndarray]]]:
    """Tokens, and of each image the patches that are present, by row and column."""
    tokens = fake_tokens(SHAPE, 4, sparse=sparse)
    present, values = tokens.present.numpy(), tokens.patches.double().numpy()
    rows, columns = SHAPE.grid
    found = [
        {
            (row, column): values[n, row * columns + column]
            for row in range(rows)
            for column in range(columns)
            if present[n, row * columns + column]
        }
        for n in range(len(values))
    ]
    return tokens, found


@pytest.mark.parametrize("cls", [RMac, Spoc, Crow])
@pytest.mark.parametrize("grid", [(3, 5), (5, 3), (4, 4), (1, 7)])
def test_they_keep_an_aggregators_promises(cls: type, grid: tuple[int, int]) -> None:
    check_aggregator(cls, TokenShape(6, grid, heads=3, cls=True))


@pytest.mark.parametrize("sparse", [False, True])
def test_rmac_is_the_sum_of_unit_maxima(sparse: bool) -> None:
    tokens, every = images(sparse)
    found = RMac(SHAPE, levels=2)(tokens)[:, 0].numpy()
    for row, patches in zip(found, every, strict=True):
        total = np.zeros(SHAPE.dim)
        for top, left, size in regions(*SHAPE.grid, 2):
            inside = [
                patch
                for (y, x), patch in patches.items()
                if top <= y < top + size and left <= x < left + size
            ]
            if inside:
                total += unit(np.max(inside, axis=0))
        np.testing.assert_allclose(row, unit(total), atol=1e-6)


def test_regions_are_those_of_the_paper() -> None:
    """A square has l * l regions at level l, a grid of 3 : 2 has (l + 1) * l."""
    assert [len(regions(12, 12, levels)) for levels in (1, 2, 3)] == [1, 1 + 4, 1 + 4 + 9]
    assert regions(12, 12, 2)[1:] == [(0, 0, 8), (0, 4, 8), (4, 0, 8), (4, 4, 8)]
    assert regions(12, 18, 1) == [(0, 0, 12), (0, 6, 12)]
    assert len(regions(18, 12, 2)) == 2 + 6
    for top, left, size in regions(7, 16, 5):
        assert 0 <= top <= 7 - size
        assert 0 <= left <= 16 - size


@pytest.mark.parametrize("sparse", [False, True])
def test_spoc_weighs_by_the_distance_from_the_middle(sparse: bool) -> None:
    tokens, every = images(sparse)
    found = Spoc(SHAPE)(tokens)[:, 0].numpy()
    plain = Spoc(SHAPE, prior=False)(tokens)[:, 0].numpy()
    rows, columns = SHAPE.grid
    sigma = min(rows, columns) / 2 / 3
    for row, even, patches in zip(found, plain, every, strict=True):
        total = np.zeros(SHAPE.dim)
        for (y, x), patch in patches.items():
            away = (y + 0.5 - rows / 2) ** 2 + (x + 0.5 - columns / 2) ** 2
            total += math.exp(-away / (2 * sigma**2)) * patch
        np.testing.assert_allclose(row, unit(total), atol=1e-6)
        np.testing.assert_allclose(even, unit(sum(patches.values(), np.zeros(SHAPE.dim))), atol=1e-6)


@pytest.mark.parametrize("sparse", [False, True])
def test_crow_weighs_patches_and_channels(sparse: bool) -> None:
    tokens, every = images(sparse)
    found = Crow(SHAPE)(tokens)[:, 0].numpy()
    for row, patches in zip(found, every, strict=True):
        if not patches:
            assert not row.any()
            continue
        above = [np.maximum(patch, 0.0) for patch in patches.values()]
        norm = math.sqrt(sum(patch.sum() ** 2 for patch in above))
        total = sum(math.sqrt(patch.sum() / norm) * patch for patch in above)
        share = np.mean([patch > 0 for patch in above], axis=0)
        weights = np.log((share.sum() + 1e-6) / (share + 1e-6))
        np.testing.assert_allclose(row, unit(total * weights), atol=1e-5)
