"""Growth of an index: another source beside the first, a region anew, packs, resumes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from crater_ray.cli import main
from crater_ray.config import Job
from crater_ray.errors import IndexMismatch, ReaderError
from crater_ray.index.store import store_at
from crater_ray.index.verify import verify
from crater_ray.jobs.change import drop
from crater_ray.jobs.compact import compact
from crater_ray.jobs.index import run
from crater_ray.retrieve import Index

Lists = Callable[..., Job]


@pytest.fixture
def lists(job_here: Callable[..., Job], tmp_path: Path) -> Lists:
    """A job over what a source lists: part -> patterns. All sources go into one index."""

    def make(source: str, parts: Mapping[str, Sequence[int]], **tables: Mapping[str, object]) -> Job:
        path = tmp_path / f"{source}.json"
        told = {
            name: [[f"{name}/{n}", pattern] for n, pattern in enumerate(all)] for name, all in parts.items()
        }
        path.write_text(json.dumps(told))
        job = job_here(source, **tables)
        reader = job.reader.model_validate({"name": "listed", "path": str(path)})
        return job.model_copy(update={"out": tmp_path / "index", "reader": reader})

    return make


def inside(root: Path) -> dict[str, int]:
    """id -> pattern of the current version, which is whole."""
    assert verify(store_at(root)).problems == ()
    table = Index(root).items(["id", "pattern"])
    return dict(zip(table["id"].to_pylist(), table["pattern"].to_pylist(), strict=True))


def test_another_source_is_added_beside_the_first_and_takes_places_when_told(lists: Lists) -> None:
    first = lists("first", {"north": [0, 1, 2], "south": [3, 4]})
    run(first, quiet=True)
    report = run(lists("second", {"east": [6, 7]}), mode="add", quiet=True)
    assert (report.version, report.encoded, report.added, report.replaced, report.dropped) == (2, 2, 1, 0, 0)
    assert len(inside(first.out)) == 7
    index = Index(first.out)
    assert [reader.options["path"].split("/")[-1] for reader in index.snapshot.version.readers] == [
        "second.json",
        "first.json",
    ]
    assert index.image("east/0").shape == (32, 32, 3)  # each image through the reader that listed it

    anew = lists("second", {"north": [8, 9], "south": [9]})
    with pytest.raises(ReaderError, match=r"'north' is current, from another reader.*first\.json.*--replace"):
        run(anew, mode="add", quiet=True)
    report = run(anew, mode="replace", parts=["north"], quiet=True)
    assert (report.version, report.encoded, report.added, report.replaced, report.dropped) == (3, 2, 0, 1, 0)
    assert inside(first.out) == {
        "north/0": 8,
        "north/1": 9,
        "south/0": 3,
        "south/1": 4,
        "east/0": 6,
        "east/1": 7,
    }
    with pytest.raises(ReaderError, match=r"no part 'nort'; did you mean 'north'"):
        run(anew, mode="replace", parts=["nort"], quiet=True)

    moved = lists("third", {"west": [6, 7]})
    report = run(moved, mode="add", drop=["e*"], quiet=True)
    assert (report.added, report.dropped) == (1, 1)
    assert set(inside(first.out)) == {"north/0", "north/1", "south/0", "south/1", "west/0", "west/1"}


def test_an_id_that_another_part_has_is_refused_before_anything_is_encoded(
    lists: Lists, tmp_path: Path
) -> None:
    first = lists("first", {"north": [0, 1]})
    run(first, quiet=True)
    second = lists("second", {"east": [2]})
    (tmp_path / "second.json").write_text(json.dumps({"east": [["north/1", 5]]}))
    with pytest.raises(ReaderError, match="'north/1' stands in part north and in part east"):
        run(second, mode="add", quiet=True)
    assert [path.name.split(".")[0] for path in (first.out / "parts").iterdir()] == ["north"]


def test_answers_and_resumes_go_through_packs(lists: Lists) -> None:
    parts = {f"p{n}": [3 * n, 3 * n + 1, 3 * n + 2] for n in range(6)}
    job = lists("first", parts)
    run(job, quiet=True)
    run(lists("first", {**parts, "p6": [18, 19]}), quiet=True)
    drop(store_at(job.out), ["p0"])
    before = Index(job.out)
    asked = {mode: before.search(id="p3/1", top=16, mode=mode) for mode in ("exact", "shortlist")}
    done = compact(store_at(job.out), rows=8, segments=2)
    assert (done.parts, done.segments[1], done.masked) == ((6, 3), 2, 3)
    after = Index(job.out)
    for mode, hits in asked.items():
        found = after.search(id="p3/1", top=16, mode=mode)
        assert [hit.id for hit in found] == [hit.id for hit in hits]
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in hits], abs=1e-6)
    assert (
        compact(store_at(job.out), rows=8, segments=2).version == done.version
    )  # there is nothing left to do

    left = {name: all for name, all in {**parts, "p6": [18, 19]}.items() if name != "p0"}
    same = run(lists("first", left), quiet=True)
    assert (same.encoded, same.version) == (0, done.version)
    other = run(lists("first", {**left, "p2": [40, 41, 42]}), quiet=True)
    assert (other.encoded, other.replaced) == (3, 1)  # its neighbours in the pack come out of it
    assert inside(job.out)["p2/0"] == 40
    assert len(inside(job.out)) == 17


def test_the_commands(lists: Lists, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    job = lists("first", {"north": [0, 1, 2], "south": [3, 4]})
    run(job, quiet=True)

    def call(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main([*arguments])
        told = capsys.readouterr()
        return int(end.value.code or 0), told.out or told.err

    code, out = call("parts", "list", str(job.out))
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["part", "rows"],
        ["north", "3"],
        ["south", "2"],
    ]
    code, out = call("parts", "drop", str(job.out), "nowhere")
    assert code == 2
    assert "no current part is called 'nowhere'" in out
    code, out = call("parts", "drop", str(job.out), "*")
    assert code == 2
    assert "no part left" in out
    assert json.loads(call("parts", "drop", str(job.out), "south", "--json")[1])["rows"] == 3
    assert json.loads(call("compact", str(job.out), "--json")[1])["segments"] == [1, 1]
    assert json.loads(call("gc", str(job.out), "--keep", "1", "--dry-run", "--json")[1])["versions"] == [
        1,
        2,
    ]
    assert json.loads(call("gc", str(job.out), "--keep", "1", "--json")[1])["parts"] == 1
    for command in (["parts", "drop"], ["compact"], ["gc"]):
        code, out = call(*command, str(tmp_path / "nowhere"), *(["x"] if "drop" in command else []))
        assert code == 2
        assert "not an index" in out
        assert not (tmp_path / "nowhere").exists()
    code, out = call("index", str(job.path), "--part", "north")
    assert code == 2
    assert "--add or --replace" in out


def test_there_is_nothing_to_drop_from_before_the_first_version(lists: Lists) -> None:
    job = lists("first", {"north": [0]})
    with pytest.raises(IndexMismatch, match="not an index"):
        drop(store_at(job.out), ["north"])
    with pytest.raises(IndexMismatch, match="not an index"):
        compact(store_at(job.out))
