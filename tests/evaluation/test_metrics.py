"""The metrics against their definitions, written out slowly."""

from __future__ import annotations

import numpy as np
import pytest

from crater_ray.evaluation.metrics import (
    concatenate,
    difference_interval,
    group_codes,
    interval,
    relevance,
    score_queries,
    summarise,
)


def slow_ap(flags: list[bool], total: int) -> float:
    hits, value = 0, 0.0
    for rank, flag in enumerate(flags, 1):
        if flag:
            hits += 1
            value += hits / rank
    return value / total


def slow(
    order: np.ndarray, groups: list[str], wanted: dict[str, float], cuts: tuple[int, ...]
) -> dict[str, float]:
    """One query by the textbook."""
    right = {group for group, gain in wanted.items() if gain > 0 and group in groups}
    images = [row for row, group in enumerate(groups) if group in right]
    if not images:
        return {
            "image_ap": np.nan,
            "id_ap": np.nan,
            **{f"{name}@{cut}": np.nan for cut in cuts for name in ("hit", "recall")},
        }
    rows = [int(row) for row in order if row >= 0]
    seen = list(dict.fromkeys(groups[row] for row in rows))  # distinct ids in the order of their best image
    # a hole in the ranking still takes its place among the images
    answer = {
        "image_ap": slow_ap([row in images for row in order], len(images)),
        "id_ap": slow_ap([group in right for group in seen], len(right)),
    }
    for cut in cuts:
        found = len({int(row) for row in order[:cut]} & set(images))
        answer[f"hit@{cut}"] = float(found > 0)
        answer[f"recall@{cut}"] = found / len(images)
    return answer


@pytest.mark.parametrize("depth", [0, 1, 4, 30])
@pytest.mark.parametrize("seed", range(5))
def test_every_metric_is_its_definition(seed: int, depth: int) -> None:
    random = np.random.default_rng(seed)
    groups = [f"g{number}" for number in random.integers(0, 9, 30)]
    wanted = [
        {f"g{number}": float(random.integers(0, 3)) for number in random.integers(0, 12, 1 + row % 3)}
        for row in range(40)
    ] + [{"elsewhere": 1.0}, {}]
    order = np.stack([random.permutation(30) for _ in wanted])[:, :depth]
    order[5:9, depth // 2 :] = -1  # these found nothing more
    codes, names = group_codes(groups)
    scores = score_queries(order, relevance(codes, names, wanted), codes, (1, 3, 10))
    for row, asked in enumerate(wanted):
        for name, value in slow(order[row], groups, asked, (1, 3, 10)).items():
            assert scores[name][row] == pytest.approx(value, nan_ok=True), (name, row)


def test_two_views_of_one_crater_by_hand() -> None:
    codes, names = group_codes(["a", "b", "a", "c"])
    relevant = relevance(codes, names, [{"a": 1.0}])
    scores = score_queries(np.array([[1, 0, 3, 2]]), relevant, codes)
    assert scores["image_ap"][0] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert scores["id_ap"][0] == pytest.approx(1 / 2)  # b, then a
    assert scores["hit@1"][0] == 0
    assert scores["hit@5"][0] == 1
    assert scores["recall@5"][0] == 1


def test_recall_at_1_is_at_most_one_half_with_two_positives() -> None:
    codes, names = group_codes(["a", "a", "b"])
    scores = score_queries(np.array([[0, 1, 2]]), relevance(codes, names, [{"a": 1.0}]), codes)
    assert (scores["hit@1"][0], scores["recall@1"][0]) == (1.0, 0.5)


def test_what_was_not_retrieved_counts_zero() -> None:
    codes, names = group_codes(["a", "a", "b"])
    scores = score_queries(np.array([[0]]), relevance(codes, names, [{"a": 1.0, "b": 1.0}]), codes)
    assert scores["image_ap"][0] == pytest.approx(1 / 3)
    assert scores["id_ap"][0] == pytest.approx(1 / 2)


def test_queries_without_a_relevant_image_are_counted_apart() -> None:
    codes, names = group_codes(["a", "b"])
    relevant = relevance(codes, names, [{"a": 1.0}, {"x": 1.0}, {"b": 0.0}])
    summary = summarise(score_queries(np.array([[0, 1]] * 3), relevant, codes))
    assert (summary.queries, summary.excluded) == (1, 2)
    assert summary.means == {
        "image_map": 1,
        "id_map": 1,
        "hit@1": 1,
        "hit@5": 1,
        "hit@10": 1,
        "recall@1": 1,
        "recall@5": 1,
        "recall@10": 1,
    }


def test_no_query_at_all_has_no_mean() -> None:
    codes, names = group_codes(["a"])
    summary = summarise(score_queries(np.zeros((0, 1), int), relevance(codes, names, []), codes))
    assert summary.queries == 0
    assert np.isnan(summary.means["image_map"])


def test_chunks_of_queries_give_what_one_run_gives() -> None:
    random = np.random.default_rng(3)
    codes, names = group_codes([f"g{number}" for number in random.integers(0, 5, 20)])
    relevant = relevance(codes, names, [{f"g{number}": 1.0} for number in random.integers(0, 5, 12)])
    order = np.stack([random.permutation(20) for _ in range(12)])
    whole = score_queries(order, relevant, codes)
    parts = concatenate([score_queries(order[a : a + 5], relevant[a : a + 5], codes) for a in (0, 5, 10)])
    assert list(whole) == list(parts)
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name])


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (np.array([[0, 0]]), "ranked twice"),
        (np.array([[0, 7]]), "of a gallery of 2"),
        (np.array([0, 1]), "do not fit"),
    ],
)
def test_a_ranking_that_cannot_be(order: np.ndarray, words: str) -> None:
    codes, names = group_codes(["a", "b"])
    with pytest.raises(ValueError, match=words):
        score_queries(order, relevance(codes, names, [{"a": 1.0}]), codes)


def test_the_interval_is_seeded_and_as_wide_as_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.2, 4000)
    first = interval(values, seed=1)
    assert first == interval(values, seed=1)
    assert first != interval(values, seed=2)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert first.mean == pytest.approx(values.mean())
    assert first.high - first.mean == pytest.approx(half, rel=0.1)
    assert first.mean - first.low == pytest.approx(half, rel=0.1)


def test_views_of_one_crater_are_not_five_independent_queries() -> None:
    craters = np.random.default_rng(0).normal(0.5, 0.2, 400)
    values = np.repeat(craters, 5)
    clusters = [f"c{number}" for number in np.repeat(np.arange(400), 5)]
    alone, together = interval(values), interval(values, clusters=clusters)
    assert alone.mean == together.mean
    assert (together.high - together.low) / (alone.high - alone.low) == pytest.approx(np.sqrt(5), rel=0.1)


def test_queries_without_a_score_do_not_enter_the_interval() -> None:
    values = np.array([0.2, np.nan, 0.4])
    assert interval(values).mean == pytest.approx(0.3)
    assert interval(values, clusters=["a", "b", "c"]).mean == pytest.approx(0.3)
    with pytest.raises(ValueError, match="no query"):
        interval(np.array([np.nan]))
    with pytest.raises(ValueError, match="2 clusters for 3"):
        interval(values, clusters=["a", "b"])


def test_a_small_paired_gain_is_seen_where_two_intervals_overlap() -> None:
    random = np.random.default_rng(0)
    first = random.uniform(0, 1, 500)
    second = first + random.normal(0.02, 0.03, 500)
    assert interval(second).low < interval(first).high
    assert difference_interval(second, first).low > 0
    with pytest.raises(ValueError, match="same queries"):
        difference_interval(first, np.where(first > 0.5, np.nan, first))
