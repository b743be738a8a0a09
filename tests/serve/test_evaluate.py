"""`crater-ray evaluate` from the command line over finished indexes: no Ray is needed, for all is there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from crater_ray.cli import main
from crater_ray.evaluation import evaluate

from .conftest import make_index

TOML = """
out = "out"
[reader]
name = "painted"
items = {items}
[queries]
name = "painted"
items = {items}
[backbone]
name = "painted_fake"
"""


def asked_of_itself(folder: Path, segments: tuple[tuple[int, int], ...], monkeypatch: Any) -> list[str]:
    """Words of the command line: a job whose gallery and queries are the same images."""
    root = make_index(folder / "out", segments)
    shutil.copytree(root, folder / "copy")
    (folder / "copy").rename(root / "queries")
    monkeypatch.setattr(evaluate.index_job, "run", lambda *job, **how: None)
    job = folder / "job.toml"
    job.write_text(TOML.format(items=segments[-1][0] + 1))
    return ["evaluate", str(job)]


@pytest.mark.usefixtures("painted")
def test_nothing_relevant_but_the_queries_themselves_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = asked_of_itself(tmp_path, ((0, 1), (2, 1), (4, 1)), monkeypatch)  # one view of each crater
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "no query of job.toml has a relevant image" in said
    assert "but itself: 3 of 3 queries are in the gallery; name another reader in [queries]" in said


@pytest.mark.usefixtures("painted")
def test_a_query_s_other_view_is_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = asked_of_itself(tmp_path, ((0, 2), (4, 1)), monkeypatch)
    with pytest.raises(SystemExit) as end:
        main(words)
    assert not end.value.code
    said = capsys.readouterr().out
    assert "1 queries have no relevant image in the gallery and are left out" in said
    assert "3 queries are in the gallery themselves: each is left out of its own ranking" in said
