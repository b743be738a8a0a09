"""SIFT as a backbone: what a token is, against OpenCV asked for the whole image, and what tokens find."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from crater_ray.search.codecs import codec
from crater_ray.search.kernel import score
from crater_ray.testing import check_backbone
from crater_ray_colmap.sift import CONTRAST, DIM, Sift


@pytest.fixture
def painted() -> np.ndarray:
    """(120, 160, 3) uint8: discs of many sizes, the right fifth of it empty."""
    random, grey = np.random.default_rng(0), np.full((120, 160), 90, np.uint8)
    for _ in range(60):
        middle = (int(random.integers(5, 115)), int(random.integers(5, 115)))
        cv2.circle(grey, middle, int(random.integers(2, 9)), int(random.integers(256)), -1)
    return np.repeat(grey[:, :, None], 3, axis=2)


def test_it_keeps_a_backbones_promises() -> None:
    check_backbone(Sift(grid=4, image_size=96))


def test_a_token_is_the_largest_feature_of_its_cell(painted: np.ndarray) -> None:
    """By a loop over everything that OpenCV finds."""
    backbone = Sift(grid=5, image_size=200)
    tokens = backbone(backbone.preprocess(painted)[None])
    grey = np.asarray(Image.fromarray(painted).convert("L"))
    sift = cv2.SIFT.create(nfeatures=8192, contrastThreshold=CONTRAST)
    expected, sizes = np.zeros((25, DIM)), np.zeros(25)
    for point, descriptor in zip(*sift.detectAndCompute(grey, None), strict=True):
        cell = int(point.pt[1] / 120 * 5) * 5 + int(point.pt[0] / 160 * 5)
        size = point.size / np.hypot(120, 160)
        if size > sizes[cell]:
            sizes[cell], expected[cell] = size, np.sqrt(descriptor / descriptor.sum())
    assert sizes.any()
    assert not sizes.all()  # nothing is painted on the right
    assert tokens.attention is not None
    assert np.allclose(tokens.patches[0], expected, atol=1e-6)
    assert np.allclose(tokens.attention[0, 0], sizes, atol=1e-6)
    assert tokens.valid is not None
    assert np.array_equal(tokens.valid[0], sizes > 0)
    assert np.allclose(np.linalg.norm(expected[sizes > 0], axis=1), 1, atol=1e-5)


def test_an_image_without_features_has_tokens_of_zeros() -> None:
    backbone = Sift(grid=4, image_size=64)
    images = torch.stack([backbone.preprocess(np.full((40, 60, 3), 128, np.uint8)), torch.zeros(3, 64, 64)])
    tokens = backbone(images)  # the second is an empty place of a batch
    assert not tokens.patches.any()
    assert tokens.valid is not None
    assert not tokens.valid.any()
    assert tokens.shape == backbone.shape


def test_a_large_image_is_seen_smaller_and_no_small_one_larger() -> None:
    backbone = Sift(grid=4, image_size=64)
    large, small = (backbone.preprocess(np.zeros((h, w, 3), np.uint8)) for h, w in ((300, 600), (20, 30)))
    assert large[1].any(1).sum() == 32
    assert large[1].any(0).sum() == 64
    assert small[1].any(1).sum() == 20
    assert small[1].any(0).sum() == 30


@pytest.mark.real
def test_photographs_of_one_flight_find_each_other(copr: Path) -> None:
    """Late interaction of the tokens of nine photographs ranks those next in the flight first."""
    backbone = Sift(grid=16, image_size=512)
    names = sorted(copr.iterdir())[:9]
    images = [backbone.preprocess(np.asarray(Image.open(name).convert("RGB"))) for name in names]
    tokens = backbone(torch.stack(images)).patches
    best = torch.einsum("qtd,gsd->qgts", tokens, tokens).amax(3).mean(2).fill_diagonal_(0).argmax(1)
    assert (best - torch.arange(9)).abs().float().median() == 1


@pytest.mark.real
def test_consistent_features_tell_overlaps_from_repeated_texture(copr: Path) -> None:
    """Every eighth of the 41 photographs overlaps none of the others as the next one does."""
    backbone = Sift(grid=16, image_size=512)
    names = sorted(copr.iterdir())
    names = [name for first in range(0, 40, 8) for name in names[first : first + 2]]
    images = [backbone.preprocess(np.asarray(Image.open(name).convert("RGB"))) for name in names]
    tokens = backbone(torch.stack(images)).patches
    codes, scales = codec("int8").encode(tokens.numpy())
    found = score(tokens, codes, scales, codec="int8", k=256, dim=128, scoring="consistent")
    for one in range(0, len(names), 2):
        overlap = found[one, one + 1]
        others = np.delete(found[one], [one, one + 1])
        assert overlap > 2 * others.max()
