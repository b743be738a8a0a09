"""An index that an earlier crater-ray made opens, answers as before, is whole, and grows."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from crater_ray import load_job, open_index
from crater_ray.index.checksummed_json import FORMAT
from crater_ray.index.store import store_at
from crater_ray.index.verify import verify
from crater_ray.jobs.index import run

FIXTURES = Path(__file__).parents[1] / "fixtures"
MADE = sorted(FIXTURES.glob("index_format_*/"))
sys.path.insert(0, str(FIXTURES))

from make_index import ITEMS, hits, write_job  # noqa: E402

pytestmark = pytest.mark.ray


def test_the_format_that_is_written_has_a_fixture() -> None:
    assert FIXTURES / f"index_format_{FORMAT}" in MADE


@pytest.mark.parametrize("made", MADE, ids=lambda path: path.name)
def test_an_index_of_an_earlier_release(made: Path, ray_cluster: str, tmp_path: Path) -> None:
    root = tmp_path / "index"
    shutil.copytree(made, root)
    assert verify(store_at(root)).problems == ()
    index = open_index(root)
    assert (len(index), index.snapshot.version.number) == (ITEMS, 1)
    expected = json.loads((FIXTURES / f"{made.name}.json").read_text(encoding="utf-8"))
    found = hits(index)
    assert found.keys() == expected.keys()
    for asked, before in expected.items():
        assert [id for id, _ in found[asked]] == [id for id, _ in before]
        assert [score for _, score in found[asked]] == pytest.approx([score for _, score in before], abs=2e-3)
    assert index.search(index.image("i00004"), top=1)[0].group == "c00002"

    again = run(load_job(write_job(tmp_path)), quiet=True)
    assert (again.version, again.encoded) == (1, 0)  # the same job: its digests are the same
    grown = run(load_job(write_job(tmp_path, ITEMS + 8)), quiet=True)
    assert (grown.version, grown.encoded, grown.rows) == (2, 8, ITEMS + 8)
    assert verify(store_at(root)).problems == ()
    assert open_index(root).search(id="i00004", top=1)[0].id == expected["i00004 exact"][0][0]
