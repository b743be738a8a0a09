"""An explanation is of the index's scoring, in process, on the command line and over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from crater_ray.cli import app
from crater_ray.config import Scoring
from crater_ray.retrieve import Index

from .conftest import Rig, make_index


# consistent is of square grids: tests/search/test_consistent.py, tests/ray/test_index_job.py
@pytest.mark.parametrize("scoring", [name for name in get_args(Scoring) if name != "consistent"])
def test_contributions_sum_to_the_score(
    painted: None, rig: Callable[..., Rig], tmp_path: Path, scoring: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_index(tmp_path / scoring, ((0, 12), (12, 8)), scoring)
    index = Index(root, threads=1)
    for mode in ("exact", "shortlist"):
        hits = index.search(id="i0002", top=6, mode=mode, explain=True)
        assert len(hits) == 6
        for hit in hits:
            if scoring == "mean_token":
                assert hit.explanation == ()
                continue
            assert hit.explanation
            contributions = [pair.contribution for pair in hit.explanation]
            assert sum(contributions) == pytest.approx(hit.score, abs=1e-5)
            assert contributions == sorted(contributions, reverse=True)
            pairs = {(pair.query_token, pair.gallery_token) for pair in hit.explanation}
            assert len(pairs) == len(hit.explanation)
            if scoring == "mutual":
                assert len({query for query, _ in pairs}) == len({token for _, token in pairs}) == len(pairs)
    expected = [
        [
            (pair.query_token, pair.gallery_token, pytest.approx(pair.contribution, abs=1e-8))
            for pair in hit.explanation
        ]
        for hit in hits
    ]

    for shards in (1, 2):
        asked = {"id": "i0002", "top": 6, "explain": True}
        reply = rig(shards=shards, version=2, where=root).client.post("/v1/search", json=asked)
        assert _pairs(reply.json()["hits"]) == expected

    command = ["query", str(root), "--id", "i0002", "--top", "6", "--explain"]
    app([*command, "--json"], standalone_mode=False)
    assert _pairs(json.loads(capsys.readouterr().out)[0]["hits"]) == expected
    app([*command, "--sheet", str(tmp_path / "sheet.png")], standalone_mode=False)
    assert ("no pairs of tokens" in capsys.readouterr().out) == (scoring == "mean_token")
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


def _pairs(hits: list[dict[str, Any]]) -> list[list[tuple[int, int, float]]]:
    return [
        [(pair["query_token"], pair["gallery_token"], pair["contribution"]) for pair in hit["explanation"]]
        for hit in hits
    ]
