"""What is drawn: enough, whole, related, and the same for the same seed."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from crater_ray_supscene.overlap.graph import Edges, OverlapGraph, overlap_graph
from crater_ray_supscene.overlap.scenes import pairs_scene
from crater_ray_supscene.sampling import Sampler, Sampling, anchor_expand, balanced, samples_of
from crater_ray_supscene.training.similarity_buffer import SimilarityBuffer

DATA = Path(os.environ.get("CRATER_RAY_DATA", Path(__file__).parents[3].parent / "shared" / "data"))


def strip(count: int, reach: int, start: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images along a strip: neighbours overlap, the less the farther."""
    first = np.repeat(np.arange(count), reach)
    second = first + np.tile(np.arange(1, reach + 1), count)
    weight = 1 - (second - first) / (reach + 1)
    keep = second < count
    return first[keep] + start, second[keep] + start, weight[keep]


def two_scenes() -> OverlapGraph:
    one, other = strip(60, 10), strip(40, 10, 60)
    rows, columns, weights = (np.concatenate(parts) for parts in zip(one, other, strict=True))
    return overlap_graph(100, Edges(rows, columns, weights.astype(np.float32)))


@pytest.mark.parametrize("method", ["anchor_expand", "balanced", "uniform"])
def test_a_batch_is_of_distinct_images_of_its_scenes_and_of_seed_and_step_alone(method) -> None:  # type: ignore[no-untyped-def]
    graph, units = two_scenes(), [np.arange(60), np.arange(60, 100)]
    how = Sampling(nodes=16, subgraphs=3, method=method)
    sampler = Sampler(graph, units, how, seed=4)
    assert sampler.epoch == samples_of(60, 16) + samples_of(40, 16) == 6
    scenes = []
    for step in range(4):
        batch = sampler.batch(step)
        assert batch.shape == (3, 16)
        np.testing.assert_array_equal(batch, Sampler(graph, units, how, seed=4).batch(step))
        for rows in batch:
            assert len(set(rows.tolist())) == 16
            assert len({row >= 60 for row in rows.tolist()}) == 1
            scenes.append(bool(rows[0] >= 60))
    assert sorted(scenes[:6]) == sorted(scenes[6:]) == [False] * 3 + [True] * 3  # each epoch alike
    assert (Sampler(graph, units, how, seed=5).batch(0) != sampler.batch(0)).any()


def test_a_hard_batch_is_of_units_that_look_alike() -> None:
    """Units on a circle, those next to each other most alike: by a loop over all angles."""
    angles = np.random.default_rng(0).permutation(40) / 40 * 2 * np.pi
    units = [np.arange(2 * unit, 2 * unit + 2) for unit in range(40)]
    graph = overlap_graph(80, Edges(np.arange(0, 80, 2), np.arange(1, 80, 2), np.ones(40, np.float32)))
    how = Sampling(nodes=2, subgraphs=8, hard_negatives=3)
    similarities = SimilarityBuffer(units, dim=2)
    sampler = Sampler(graph, units, how, seed=1)
    plain = Sampler(graph, units, replace(how, hard_negatives=0), seed=1)
    for step in range(3):  # nothing is known yet: as ever
        np.testing.assert_array_equal(sampler.batch(step, similarities.nearest), plain.batch(step))
    rows = torch.arange(80)
    away = torch.from_numpy(np.stack([np.cos(angles), np.sin(angles)], 1).repeat(2, 0).astype(np.float32))
    wide = torch.tensor([0.5, 2.0]).repeat(40)[:, None]
    there = torch.ones(80, dtype=torch.bool)
    there[6] = False  # an image that could not be used: the other one of its unit stands for it
    similarities.update(rows, there, away * wide)

    def apart(one: int, other: int) -> float:
        between = abs(angles[one] - angles[other])
        return float(min(between, 2 * np.pi - between))

    found = [round(apart(5, unit), 6) for unit in similarities.nearest(5)]
    assert found == sorted(round(apart(5, unit), 6) for unit in range(40) if unit != 5)
    for step in range(5):
        batch = sampler.batch(step, similarities.nearest)
        np.testing.assert_array_equal(batch, sampler.batch(step, similarities.nearest))
        drawn = [int(pair.min()) // 2 for pair in batch]
        first_of_four = np.sort(plain.batch(step)[::4], 1)
        np.testing.assert_array_equal(np.sort(batch[::4], 1), first_of_four)
        assert len(set(drawn)) >= 7
        for first in (0, 4):
            nearest = sorted(apart(drawn[first], unit) for unit in range(40) if unit != drawn[first])[:9]
            assert (
                max(apart(drawn[first], unit) for unit in drawn[first + 1 : first + 4]) <= nearest[-1] + 1e-6
            )


def test_a_small_scene_comes_whole_and_is_padded() -> None:
    sampler = Sampler(two_scenes(), [np.arange(5)], Sampling(nodes=8, subgraphs=2), seed=0)
    assert sorted(sampler.batch(0)[1].tolist()) == [-1, -1, -1, 0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="nothing to draw"):
        Sampler(two_scenes(), [], Sampling(), seed=0)


def test_anchor_expansion_stays_near_its_anchor() -> None:
    graph = two_scenes()
    for seed in range(20):
        rows = anchor_expand(graph, np.arange(60), 16, np.random.default_rng(seed))
        assert np.ptp(rows) <= 6 * 8  # three hops of eight images (overlap 0.2 and more), each way
        assert (graph.block(rows) >= 0.25).mean() > 0.3
    lonely = overlap_graph(30, Edges(np.zeros(0, int), np.zeros(0, int), np.zeros(0, np.float32)))
    assert len(set(anchor_expand(lonely, np.arange(30), 8, np.random.default_rng(0)).tolist())) == 8


def share(graph: OverlapGraph, rows: np.ndarray) -> float:
    upper = np.triu_indices(len(rows), 1)
    return float((graph.block(rows)[upper] >= 0.25).mean())


@pytest.mark.parametrize(("count", "reach", "nodes"), [(60, 24, 16), (600, 220, 128), (400, 350, 64)])
def test_balanced_sampling_brings_half_of_the_pairs_together(count: int, reach: int, nodes: int) -> None:
    rows, columns, weights = strip(count, reach)
    graph = overlap_graph(count, Edges(rows, columns, weights.astype(np.float32)))
    random = share(graph, np.random.default_rng(0).permutation(count)[:nodes])
    found = balanced(graph, np.arange(count), nodes, np.random.default_rng(0))
    assert len(set(found.tolist())) == nodes
    assert abs(share(graph, found) - 0.5) <= max(0.05, 0.6 * abs(random - 0.5))


@pytest.mark.parametrize(("count", "reach", "nodes"), [(2300, 20, 32), (2300, 40, 32), (600, 40, 64)])
def test_balanced_sampling_of_a_sparse_scene_goes_on_until_half_of_the_pairs_are_positive(
    count: int, reach: int, nodes: int
) -> None:
    """Scenes whose random sets have one positive pair in thirty: one draw of 20 finds no swap at times."""
    rows, columns, weights = strip(count, reach)
    graph = overlap_graph(count, Edges(rows, columns, weights.astype(np.float32)))
    for seed in range(8):
        found = balanced(graph, np.arange(count), nodes, np.random.default_rng(seed))
        again = balanced(graph, np.arange(count), nodes, np.random.default_rng(seed))
        np.testing.assert_array_equal(found, again)
        assert len(set(found.tolist())) == nodes
        assert share(graph, found) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("density", [0.05, 0.2, 0.5, 0.8])
def test_balanced_sampling_of_a_small_graph_finds_the_best_of_all_subsets(density: float) -> None:
    for seed in range(5):
        random = np.random.default_rng(seed)
        rows, columns = np.triu_indices(11, 1)
        kept = random.random(len(rows)) < density
        graph = overlap_graph(11, Edges(rows[kept], columns[kept], np.ones(kept.sum(), np.float32)))
        block = graph.block(np.arange(11)) >= 0.25
        shares = [block[np.ix_(some, some)].sum() / 2 - 2.5 for some in combinations(range(11), 5)]
        least = min(abs(pairs / 10 - 0.5) for pairs in shares)
        found = balanced(graph, np.arange(11), 5, np.random.default_rng(seed))
        assert abs(share(graph, found) - 0.5) <= max(0.05, least) + 1e-9


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "nodes", "least", "most"),
    [
        ("caliterra", 16, 0.45, 0.55),
        ("caliterra", 32, 0.45, 0.55),
        ("copr", 16, 0.45, 0.55),
        ("copr", 24, 0.38, 0.39),  # no 24 of its 41 images have more
        ("boruszyn", 16, 0.45, 0.55),
    ],
)
def test_balanced_sampling_of_real_scenes(name: str, nodes: int, least: float, most: float) -> None:
    if not (DATA / "sfm").is_dir():
        pytest.skip(f"{DATA / 'sfm'} is absent; set CRATER_RAY_DATA")
    scene = pairs_scene(DATA / "sfm" / name)
    graph = overlap_graph(len(scene.uris), scene.edges, scene.unknown)
    sampler = Sampler(graph, [np.arange(len(graph))], Sampling(nodes=nodes, method="balanced"), seed=3)
    for step in range(10):
        for rows in sampler.batch(step):
            assert least <= share(graph, rows) <= most


def test_balanced_sampling_of_128_takes_milliseconds() -> None:
    rows, columns, weights = strip(2000, 300)
    graph = overlap_graph(2000, Edges(rows, columns, weights.astype(np.float32)))
    spent = []
    for seed in range(5):
        start = time.process_time()
        balanced(graph, np.arange(2000), 128, np.random.default_rng(seed))
        spent.append(time.process_time() - start)
    assert min(spent) < 0.1
