"""Index jobs on object storage and real Ray processes: same bytes, resume, races, growth, search."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from crater_ray.cli import main
from crater_ray.config import Job, load_job
from crater_ray.errors import ConfigError
from crater_ray.evaluation import evaluate
from crater_ray.index.lock import DriverLock
from crater_ray.index.s3 import Bucket
from crater_ray.index.store import store_at
from crater_ray.index.verify import verify
from crater_ray.index.versions import numbers
from crater_ray.jobfile import told
from crater_ray.jobs.change import drop
from crater_ray.jobs.compact import compact
from crater_ray.jobs.index import run
from crater_ray.request import SearchRequest
from crater_ray.retrieve import Index, open_index
from crater_ray.serve.searcher import Searcher, ShardQuery
from crater_ray.serve.settings import Settings

pytestmark = pytest.mark.ray
Make = Callable[..., Job]


@pytest.fixture
def on_storage(make_job: Make, place: Path) -> Make:
    """As make_job, with its index on object storage."""

    def make(name: str = "remote", **tables: object) -> Job:
        job = make_job(name, **tables)
        job.path.write_text(job.path.read_text().replace(f'out = "{name}"', f'out = "{told(place)}"'))
        return load_job(job.path)

    return make


def audit(job: Job, items: int) -> Index:
    """Ids exactly once, every object good, read again from a machine that has no copy."""
    assert verify(store_at(job.out)).problems == ()
    index = Index(job.out)
    assert sorted(index.ids) == [f"i{number:05d}" for number in range(items)]
    return index


def test_a_job_gives_the_bytes_answers_and_numbers_of_one_in_a_folder(
    make_job: Make, on_storage: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lists = {"index": "SQ8"}  # a segment with a file of its own
    here, there = make_job(shortlist=lists), on_storage(shortlist=lists)
    local, remote = run(here, quiet=True), run(there, quiet=True)
    assert (
        (remote.rows, remote.parts, remote.encoded) == (local.rows, local.parts, local.encoded) == (40, 4, 40)
    )
    plain, copied = Index(here.out), audit(there, 40)
    for mine, theirs in zip(plain.snapshot.parts, copied.snapshot.parts, strict=True):
        assert mine.record.files == theirs.record.files
        assert {path.name: path.read_bytes() for path in mine.folder.glob("*.[bn]*")} == {
            path.name: path.read_bytes() for path in theirs.folder.glob("*.[bn]*")
        }
    picture = plain.image("i00007")
    for mode in ("exact", "shortlist"):
        assert copied.search(picture, top=5, mode=mode) == plain.search(picture, top=5, mode=mode)
    assert open_index(told(there.out)).search(id="i00007") == plain.search(id="i00007")
    with monkeypatch.context() as machine:
        machine.setenv("CRATER_RAY_CACHE", str(tmp_path / "ranges"))
        ranged = open_index(told(there.out), download=False)
        for how in ({"explain": True}, {"expand": 2}, {}):
            few = {"top": 3, "mode": "shortlist", "candidates": 3, **how}
            assert ranged.search(picture, **few) == plain.search(picture, **few)
            assert ranged.search(id="i00007", **few) == plain.search(id="i00007", **few)
        copied_here = {path.name for path in store_at(there.out).local.glob("parts/*/*")}
        assert copied_here == {"part.json", "items.parquet"}
        assert ranged.search(picture, mode="exact") == plain.search(picture, mode="exact")

    scored = evaluate.run(there, quiet=True)
    assert (scored.gallery, scored.queries, numbers(store_at(there.out / "queries"))) == (40, 20, [1])
    assert scored.bytes_per_image == plain.snapshot.bytes_per_image()

    grown = run(on_storage("more", reader={"items": 60}, shortlist=lists), mode="replace", quiet=True)
    assert (grown.version, grown.encoded, grown.added, grown.replaced) == (2, 20, 2, 0)
    whole = audit(there, 60)
    searchers_copy_their_own_parts(whole, monkeypatch, tmp_path)
    smaller = drop(store_at(there.out), ["p0050"])
    assert (smaller.version.number, smaller.dropped) == (3, 1)
    audit(there, 50)
    assert len(Index(there.out, version=1)) == 40
    packed = compact(store_at(there.out))
    assert (packed.version, packed.parts, packed.segments) == (4, (5, 1), (2, 1))
    index = audit(there, 50)
    assert index.search(id="i00007", mode="exact") == Index(there.out, version=3).search(
        id="i00007", mode="exact"
    )


def searchers_copy_their_own_parts(whole: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two shards on two nodes: no part is on both, and together they answer as one index."""
    vectors, tokens = whole.stored(np.array([whole.row("i00007")]))
    found: dict[str, float] = {}
    held: list[set[str]] = []
    request = SearchRequest(id="i00007", top=30, mode="exact", version=2)
    with monkeypatch.context() as nodes:
        for shard in range(2):
            nodes.setenv("CRATER_RAY_CACHE", str(tmp_path / f"node{shard}"))
            searcher = Searcher(whole.root, shard, 2, threads=1)
            searcher.hold([2])
            assert len(list(store_at(whole.root).local.glob("segments/*/*.faiss"))) == 1
            held.append({path.parent.name for path in store_at(whole.root).local.glob("parts/*/codes.bin")})
            answer = searcher.search(ShardQuery(request, vectors[0], tokens[0]))
            found |= dict(zip(answer.ids, answer.scores.tolist(), strict=True))
    assert [len(parts) for parts in held] == [4, 2]
    assert not held[0] & held[1]
    best = sorted(found, key=lambda id: (-found[id], id))[:30]
    assert best == [hit.id for hit in whole.search(id="i00007", top=30, mode="exact")]
    settings = Settings(index=whole.root, no_auth=True)
    travelled = Settings.model_validate(settings.model_dump(mode="json"))
    assert (travelled.name, travelled.first_version()) == ("moon", 2)


def test_kill_9_of_the_driver_and_nothing_is_done_twice(
    on_storage: Make, driver: Callable[..., subprocess.Popen[str]], ray_cluster: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    gated = {"gate": str(gate), "gate_item": "i00027"}
    job = on_storage(reader=gated, cluster={"encoders": 1, "address": ray_cluster})
    first = driver("index", str(job.path))
    worker = _pid_at(gate)
    first.kill()
    first.wait()
    os.kill(worker, signal.SIGKILL)
    gate.unlink()
    done = {name for name in store_at(job.out).names("parts")}
    assert len(done) == 2
    report = run(on_storage(), quiet=True)
    assert (report.rows, report.encoded) == (40, 20)
    audit(job, 40)
    assert [note for note in verify(store_at(job.out)).notes if note.path.startswith("parts")] == []


def test_two_drivers_on_two_machines_race_and_one_publishes(
    on_storage: Make,
    driver: Callable[..., subprocess.Popen[str]],
    ray_cluster: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = on_storage(cluster={"encoders": 1, "address": ray_cluster})
    drivers = []
    for machine in ("one", "other"):
        monkeypatch.setenv("CRATER_RAY_CACHE", str(tmp_path / machine))
        drivers.append(driver("index", str(job.path), "--json"))
    reports = []
    for process in drivers:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        reports.append(json.loads(out))
    assert [(report["version"], report["rows"]) for report in reports] == [(1, 40)] * 2
    assert numbers(store_at(job.out)) == [1]
    audit(job, 40)
    attempts = {
        tuple(key.split("/")[1:3]) for key in Bucket(told(job.out)).keys("parts") if key.count("/") == 3
    }
    assert len(attempts) == 4  # one of each part: what lost is gone


def test_a_node_that_does_not_reach_the_storage_is_named(
    on_storage: Make, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crater_ray.jobs.preflight import _look

    job = on_storage()
    store = store_at(place)
    with DriverLock(store):
        store.put("tmp/mark", b"")
        refs = job.reader_ref(), job.backbone_ref(), job.shortlist_ref(), job.rerank_ref()
        assert _look._function(store.url, "mark", job.path.name, *refs).dim == 16
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        with pytest.raises(ConfigError, match=f"node {os.uname().nodename}: {told(place)} cannot be reached"):
            _look._function(store.url, "mark", job.path.name, *refs)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["info", "s3://no-such-bucket-here/moon"], "there is no such bucket"),
        (["verify", "{place}"], "is not an index: nothing is there"),
        (["query", "{place}", "--id", "x"], "is not an index: nothing is there"),
        (["serve", "{place}", "--no-auth"], "is not an index: nothing is there"),
        (["compact", "{place}"], "is not an index: nothing is there"),
        (["gc", "{place}"], "is not an index: nothing is there"),
        (["consume", "pairs", "{job}"], "consumers write beside the index"),
        (["bench", "tokens", "{job}"], "results are written into a folder"),
    ],
)
def test_what_cannot_be_is_said_and_exits_2(
    on_storage: Make, place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    names = {"place": told(place), "job": str(on_storage().path)}
    with pytest.raises(SystemExit) as stopped:
        main([argument.format(**names) for argument in arguments])
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err


def _pid_at(gate: Path) -> int:
    """The process that has come to the gate. Blocks until one has."""
    while True:
        with gate.open() as fifo:
            line = fifo.readline()
        if line:  # else the one before was still letting go of its end
            return int(line)
