"""The metrics against loops written from their definitions, and against ir_measures."""

from __future__ import annotations

import math

import ir_measures
import numpy as np
import pytest
from ir_measures import AP, R, nDCG

from crater_ray.evaluation import metrics


def case(seed: int = 0, images: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """scores, graded overlaps with some queries without any, and the excluded diagonal."""
    generator = np.random.default_rng(seed)
    gains = generator.random((images, images)) * (generator.random((images, images)) < 0.3)
    gains = np.triu(gains, 1) + np.triu(gains, 1).T
    gains[4] = gains[:, 4] = 0
    scores = 0.5 * gains + 0.3 * generator.random((images, images))
    return scores, gains, np.eye(images, dtype=bool)


def test_they_are_what_their_definitions_count() -> None:
    scores, gains, excluded = case()
    order = metrics.ranking(scores, excluded)
    relevant = gains >= 0.25
    for k in (1, 5, 10):
        for query in range(len(scores)):
            ranked = [column for column in np.argsort(-scores[query]).tolist() if column != query]
            positives = {column for column in range(len(scores)) if relevant[query, column]}
            hits = [column in positives for column in ranked[:k]]
            found = {
                "recall": metrics.recall_at(order, relevant, k)[query],
                "hits": metrics.hit_rate_at(order, relevant, k)[query],
                "min": metrics.map_at(order, relevant, k)[query],
                "all": metrics.map_at(order, relevant, k, "P")[query],
                "ndcg": metrics.ndcg_at(order, relevant.astype(float), k)[query],
                "graded": metrics.ndcg_at(order, gains, k)[query],
                "trapezoid": metrics.trapezoid_ap(order, relevant, k)[query],
            }
            if not positives:
                assert all(math.isnan(value) for name, value in found.items() if name != "graded")
                continue
            total = sum(sum(hits[: i + 1]) / (i + 1) for i, hit in enumerate(hits) if hit)
            ideal = sum(1 / math.log2(i + 2) for i in range(min(len(positives), k)))
            best = sorted(gains[query].tolist(), reverse=True)[:k]
            area, recall, precision = 0.0, 0.0, 1.0
            for i in range(k):  # as compute_overlap_benchmark.py has it
                new_recall = sum(hits[: i + 1]) / len(positives)
                new_precision = sum(hits[: i + 1]) / (i + 1)
                area += (new_recall - recall) * (precision + new_precision) / 2
                recall, precision = new_recall, new_precision
            expected = {
                "recall": sum(hits) / len(positives),
                "hits": sum(hits) / min(len(positives), k),
                "min": total / min(len(positives), k),
                "all": total / len(positives),
                "ndcg": sum(hit / math.log2(i + 2) for i, hit in enumerate(hits)) / ideal,
                "graded": sum(gains[query, c] / math.log2(i + 2) for i, c in enumerate(ranked[:k]))
                / sum(gain / math.log2(i + 2) for i, gain in enumerate(best)),
                "trapezoid": area,
            }
            assert found == pytest.approx(expected)


def test_they_agree_with_ir_measures() -> None:
    scores, gains, excluded = case(1)
    order, relevant = metrics.ranking(scores, excluded), gains >= 0.25
    kept = np.flatnonzero(relevant.any(1))
    qrels = [
        ir_measures.Qrel(str(query), str(column), 1)
        for query in kept
        for column in np.flatnonzero(relevant[query])
    ]
    run = [
        ir_measures.ScoredDoc(str(query), str(column), float(scores[query, column]))
        for query in kept
        for column in range(len(scores))
        if column != query
    ]
    outside = ir_measures.calc_aggregate([R @ 5, R @ 10, AP @ 10, AP, nDCG @ 10], qrels, run)
    ours = metrics.overlap_summary(order, gains, 0.25, (5, 10))
    assert ours["recall@5"] == pytest.approx(outside[R @ 5])
    assert ours["recall@10"] == pytest.approx(outside[R @ 10])
    assert ours["mAP@10 over P"] == pytest.approx(outside[AP @ 10])
    assert ours["mAP"] == pytest.approx(outside[AP])
    assert ours["NDCG@10"] == pytest.approx(outside[nDCG @ 10])
