"""TREC files as an outside tool reads them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pytest
from ir_measures import AP, R, Success

from crater_ray.errors import StorageFull, UserError
from crater_ray.evaluation.metrics import group_codes, relevance, score_queries, summarise
from crater_ray.evaluation.trec import strictly_decreasing, write_qrels, write_run


@pytest.mark.parametrize("depth", [60, 20])
def test_an_outside_tool_scores_the_run_as_we_do_ties_included(tmp_path: Path, depth: int) -> None:
    random = np.random.default_rng(depth)
    ids = [f"images/gallery/{number}_é.jpg" for number in random.permutation(60)]
    groups = [f"g{number}" for number in random.integers(0, 12, 60)]
    wanted: list[dict[str, float]] = [{f"g{number}": 1.0} for number in random.integers(0, 12, 30)]
    wanted += [{"g1": 1.0, "g2": 1.0}, {"not in the gallery": 1.0}]
    scores = random.integers(0, 4, (len(wanted), 60)).astype(np.float32) / 3  # mostly ties
    order = np.stack([np.lexsort((ids, -row)) for row in scores])[:, :depth]  # ties by id, ascending
    codes, names = group_codes(groups)
    relevant = relevance(codes, names, wanted)

    run = write_run(
        tmp_path / "run",
        ((f"q{q}", ((ids[row], scores[q, row]) for row in rows)) for q, rows in enumerate(order)),
    )
    qrels = write_qrels(
        tmp_path / "qrels",
        ((f"q{q}", (ids[row] for row in np.flatnonzero(flags))) for q, flags in enumerate(relevant)),
    )
    ours = summarise(score_queries(order, relevant, codes))
    measures = [AP, Success @ 1, Success @ 10, R @ 1, R @ 10]
    theirs = ir_measures.calc_aggregate(
        measures, ir_measures.read_trec_qrels(str(qrels)), ir_measures.read_trec_run(str(run))
    )
    assert (ours.queries, ours.excluded) == (31, 1)
    assert theirs[AP] == pytest.approx(ours.means["image_map"], abs=1e-6)
    for cut in (1, 10):
        assert theirs[Success @ cut] == pytest.approx(ours.means[f"hit@{cut}"], abs=1e-6)
        assert theirs[R @ cut] == pytest.approx(ours.means[f"recall@{cut}"], abs=1e-6)


def test_the_lines_are_trec_s(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [("q", [("b", 0.5), ("a", 0.25)])], tag="mine")
    qrels = write_qrels(tmp_path / "qrels", [("q", ["a", "b"]), ("none", [])])
    assert run.read_text() == "q Q0 b 1 0.5 mine\nq Q0 a 2 0.25 mine\n"
    assert qrels.read_text() == "q 0 a 1\nq 0 b 1\n"


@pytest.mark.parametrize(
    "scores",
    [
        [1.0, 1.0, 1.0],
        [0.0, -0.0, 0.0, -1e-45],
        [0.3, 0.1, 0.2],
        [-1.0, -1.0, -2.0],
        [],
        np.sort(np.random.default_rng(0).normal(size=5000).round(2))[::-1],
    ],
)
def test_scores_fall_strictly_and_stay_near(scores: Any) -> None:
    wanted = np.array(scores, np.float32)
    got = strictly_decreasing(wanted)
    slow: list[np.float32] = []
    for score in wanted:
        slow.append(min(score, np.nextafter(slow[-1], np.float32(-np.inf))) if slow else score)
    assert got.tolist() == slow
    assert (np.diff(got) < 0).all()
    read_back = np.array([float(f"{number:.9g}") for number in got], np.float32)
    np.testing.assert_array_equal(read_back, got)


@pytest.mark.parametrize("score", [float("nan"), float("-inf")])
def test_what_was_not_scored_is_not_written(tmp_path: Path, score: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        write_run(tmp_path / "run", [("q", [("a", 1.0), ("b", score)])])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["two words", "tab\t", "", " "])
def test_an_id_that_the_format_cannot_hold(tmp_path: Path, name: str) -> None:
    for rows in ([("q", [(name, 1.0)])], [(name, [("a", 1.0)])]):
        with pytest.raises(UserError, match="rename the item"):
            write_run(tmp_path / "run", rows)
    with pytest.raises(UserError, match="rename the item"):
        write_qrels(tmp_path / "qrels", [("q", [name])])
    assert not list(tmp_path.iterdir())


def test_a_run_longer_than_one_write_keeps_every_line(tmp_path: Path) -> None:
    hits = [(f"d{number}", -float(number)) for number in range(1000)]
    run = write_run(tmp_path / "run", ((f"q{number}", hits) for number in range(140)))
    lines = run.read_text().splitlines()
    assert len(lines) == 140_000
    assert lines[-1] == "q139 Q0 d999 1000 -999 crater-ray"


def test_a_full_disk_says_so_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text("old")

    def rows() -> Any:
        yield "q", [("a", 1.0)]
        raise OSError(errno.EIO, "the index is gone")

    with pytest.raises(OSError, match="the index is gone"):  # not ours to explain
        write_run(path, rows())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(UserError, match="cannot write"):
        write_run(tmp_path / "no folder" / "run", [])


def test_no_room_is_storage_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageFull, match="no room left"):
        write_run(tmp_path / "run", [("q", [("a", 1.0)])])
    assert not list(tmp_path.iterdir())
