"""Scoring `consistent`: mutual pairs of tokens that agree on one geometry."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from crater_ray.search.codecs import NAMES as CODECS
from crater_ray.search.codecs import codec
from crater_ray.search.geometry import BASE, FITS, LARGEST, NEAR, NEAR_FIT, ROUND, STRETCH, STRONGEST
from crater_ray.search.kernel import explain, score

torch.set_num_threads(1)
DIM = 48


def unit(*shape: int, seed: int = 0) -> np.ndarray:
    tokens = np.random.default_rng([seed, *shape]).normal(size=shape)
    return (tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)).astype(np.float32)


def scored(query: np.ndarray, image: np.ndarray, kept: str = "fp16") -> float:
    codes, scales = codec(kept).encode(image[None])
    how = {"codec": kept, "k": len(image), "dim": image.shape[1], "scoring": "consistent"}
    return float(score(query[None], codes, scales, **how)[0, 0])


def slow(query: np.ndarray, image: np.ndarray) -> float:
    """Every pair of the strongest matches is a transform; affine maps are fitted to the heaviest set."""
    here, there = math.isqrt(len(query)), math.isqrt(len(image))
    similarity = query.astype(np.float64) @ image.astype(np.float64).T
    matches = []
    for q in range(len(query)):
        k = int(similarity[q].argmax())
        if query[q].any() and image[k].any() and int(similarity[:, k].argmax()) == q and similarity[q, k] > 0:
            matches.append(
                (similarity[q, k] ** 3, complex(q % here, q // here), complex(k % there, k // there))
            )
    strongest = sorted(matches, key=lambda match: -match[0])[:STRONGEST]
    best: list[int] = []
    for one, (_, a, b) in enumerate(strongest):
        for _, c, d in strongest[one + 1 :]:
            if abs(c - a) <= BASE or d == b:
                continue
            turn = (d - b) / (c - a)
            if not 1 / LARGEST < abs(turn) < LARGEST:
                continue
            near = NEAR * max(1.0, abs(turn))
            held = [n for n, (_, p, q) in enumerate(matches) if abs(turn * (p - a) + b - q) < near]
            best = max(best, held, key=lambda found: sum(matches[n][0] for n in found))
    for _ in range(FITS):
        best = fitted(matches, best)
    return sum(matches[n][0] for n in best) / len(query)


def fitted(matches: list[tuple[float, complex, complex]], held: list[int]) -> list[int]:
    """Those near the affine map of the held ones, by NumPy's least squares."""
    if len(held) < 4:
        return held
    weights = np.array([matches[n][0] for n in held])
    p, q = (np.array([[m[side].real, m[side].imag] for m in matches]) for side in (1, 2))
    about = p[held] - np.average(p[held], axis=0, weights=weights)
    spread = np.linalg.eigvalsh((weights[:, None] * about).T @ about / weights.sum())
    if spread.prod() <= ROUND * spread.mean() ** 2:
        return held
    rows, root = np.c_[p, np.ones(len(p))], np.sqrt(weights)[:, None]
    affine = np.linalg.lstsq(rows[held] * root, q[held] * root, rcond=None)[0]
    scales = np.linalg.svd(affine[:2], compute_uv=False)
    if np.linalg.det(affine[:2]) <= 0 or scales[0] >= STRETCH or scales[1] <= 1 / STRETCH:
        return held
    near = NEAR_FIT * max(1.0, math.sqrt(scales.prod()))
    return np.flatnonzero(np.linalg.norm(rows @ affine - q, axis=1) < near).tolist()


def shown(side: int, scene: np.ndarray, turn: complex, shift: complex) -> np.ndarray:
    """What a camera shows of a scene of tokens: tokens of zeros outside it."""
    rows, columns = scene.shape[:2]
    image = np.zeros((side * side, scene.shape[2]), np.float32)
    for cell in range(side * side):
        place = turn * complex(cell % side, cell // side) + shift
        column, row = round(place.real), round(place.imag)
        if 0 <= row < rows and 0 <= column < columns:
            image[cell] = scene[row, column]
    return image


@pytest.mark.parametrize("seed", range(4))
def test_it_equals_a_slow_vote(seed: int) -> None:
    scene = unit(20, 20, DIM, seed=seed)
    query = shown(8, scene, 1, 5 + 4j)
    image = shown(9, scene, complex(0.8, 0.6), 8 + 2j)
    noisy = image + 0.1 * unit(81, DIM, seed=seed + 10) * image.any(1)[:, None]
    noisy /= np.maximum(np.linalg.norm(noisy, axis=1, keepdims=True), 1e-9)
    for one, other in ((query, image), (query, noisy), (query[:, ::-1].copy(), noisy)):
        assert scored(one, other) == pytest.approx(slow(one, other), abs=2e-3)


def test_a_slanted_view_is_held_together_whole() -> None:
    """Foreshortened to .6 in one direction: no similarity transform holds all of it."""
    scene = unit(24, 24, DIM)
    query = shown(12, scene, 1, 6 + 6j)
    slanted = np.zeros_like(query)
    for cell in range(144):
        column, row = 6 + cell % 12, 6 + round((cell // 12 - 5.5) / 0.6 + 5.5)
        if 0 <= row < 24:
            slanted[cell] = scene[row, column]
    shared = (query @ slanted.T > 0.99).any(1).mean()
    assert scored(query, slanted) == pytest.approx(shared, abs=0.02)
    assert scored(query, slanted) == pytest.approx(slow(query, slanted), abs=2e-3)


def test_a_mirrored_view_is_not() -> None:
    """No camera mirrors the ground."""
    scene = unit(12, 12, DIM)
    query = shown(12, scene, 1, 0)
    mirrored = query.reshape(12, 12, DIM)[:, ::-1].reshape(144, DIM).copy()
    assert scored(query, mirrored) < 0.4


def test_an_image_is_wholly_consistent_with_itself_and_turned_or_scaled_with_its_overlap() -> None:
    scene = unit(24, 24, DIM)
    query = shown(8, scene, 1, 8 + 8j)
    assert scored(query, query) == pytest.approx(1.0, abs=1e-3)
    assert scored(query, shown(8, scene, 1j, 15 + 8j)) == pytest.approx(1.0, abs=1e-3)  # a quarter turn
    half = scored(query, shown(8, scene, 1, 12 + 8j))
    assert half == pytest.approx(0.5, abs=0.05)
    assert scored(query, unit(64, DIM, seed=5)) < 0.1


def test_the_same_tokens_in_other_places_are_not() -> None:
    """Repeated texture: each token has its twin, and no geometry holds them together."""
    query = unit(64, DIM)
    mixed = query[np.random.default_rng(0).permutation(64)]
    assert scored(query, mixed) < 0.3
    assert scored(query, query) > 0.99


@pytest.mark.parametrize("kept", CODECS)
def test_pairs_that_explain_a_score_sum_to_it(kept: str) -> None:
    scene = unit(20, 20, DIM)
    query, image = shown(8, scene, 1, 3 + 3j), shown(8, scene, 1, 5 + 4j)
    image[:9] = 0.0
    codes, scales = codec(kept).encode(
        np.stack([image, unit(64, DIM, seed=2), np.zeros((64, DIM), np.float32)])
    )
    how = {"codec": kept, "k": 64, "dim": DIM, "scoring": "consistent"}
    scores = score(query[None], codes, scales, **how)[0]
    for one, total in zip(explain(query, codes, scales, **how), scores, strict=True):
        assert one.contribution.sum() == pytest.approx(total, abs=1e-5)
        assert len(set(one.query_token.tolist())) == len(one.query_token)
    assert scores[0] > 2 * scores[1] > 0.0
    assert scores[2] == 0.0


def test_a_query_joined_by_hits_is_the_mean_of_its_grids() -> None:
    scene = unit(20, 20, DIM)
    grids = [shown(8, scene, 1, complex(3, 3)), shown(8, scene, 1, complex(6, 4))]
    image = shown(8, scene, 1, 5 + 4j)
    joined = scored(np.concatenate(grids), image)
    assert joined == pytest.approx(np.mean([scored(grid, image) for grid in grids]), abs=1e-6)
    codes, scales = codec("fp16").encode(image[None])
    (one,) = explain(np.concatenate(grids), codes, scales, codec="fp16", k=64, dim=DIM, scoring="consistent")
    assert one.contribution.sum() == pytest.approx(joined, abs=1e-5)


def test_tokens_that_are_no_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="12 tokens are no square grid"):
        scored(unit(12, DIM), unit(12, DIM))


@pytest.mark.parametrize("side", [1, 2])
def test_too_few_cells_for_a_transform_score_nothing(side: int) -> None:
    few = unit(side * side, DIM)
    assert scored(few, few) == 0.0
