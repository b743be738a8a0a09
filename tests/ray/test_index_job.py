"""The index job on real Ray processes: same bytes, resume, skipped images, deaths, two drivers, growth."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from crater_ray.config import Job
from crater_ray.errors import ConfigError, IncompleteJob, IndexMismatch, PluginError, ReaderError
from crater_ray.evaluation import evaluate
from crater_ray.index.lock import DriverLock
from crater_ray.index.store import store_at
from crater_ray.index.verify import verify
from crater_ray.jobs import index as jobs_index
from crater_ray.jobs.index import place_of, run
from crater_ray.plugins import registry
from crater_ray.plugins.blame import blamed, blaming
from crater_ray.request import SearchRequest
from crater_ray.retrieve import Index
from crater_ray.shard import Queries

Make = Callable[..., Job]
PLACE = r"raised in plugin crater-ray-rig 1\.0, crater_ray_rig/disks\.py, line \d+"
FAULT = rf"1 of 4 parts failed.*p0020.*RuntimeError: this part cannot be listed, {PLACE}"


def files(root: Path) -> dict[str, bytes]:
    """Every byte that a part is made of."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted((root / "parts").rglob("*"))
        if path.is_file()
    }


def audit(root: Path, items: int) -> Index:
    """Ids exactly once, every checksum good."""
    index = Index(root)
    assert sorted(index.ids) == [f"i{number:05d}" for number in range(items)]
    assert verify(store_at(root)).problems == ()
    return index


@pytest.mark.ray
def test_the_same_bytes_with_one_encoder_with_two_and_after_a_resume(make_job: Make) -> None:
    one = make_job("one", cluster={"encoders": 1})
    two = make_job("two", cluster={"encoders": 2})
    resumed = make_job("resumed", reader={"broken_part": "p0020"})
    run(one, quiet=True)
    run(two, quiet=True)
    with pytest.raises(IncompleteJob, match=FAULT):
        run(resumed, quiet=True)
    report = run(make_job("resumed"), quiet=True)
    assert report.encoded == 10  # the missing part alone
    assert files(one.out) == files(two.out) == files(resumed.out)
    audit(one.out, 40)


def test_a_plugin_s_fault_is_named_by_file_and_line(job_here: Make) -> None:
    reader = registry().build(job_here(reader={"broken_part": "p0020"}).reader_ref())
    with pytest.raises(RuntimeError) as told:
        blaming(list)(reader.read("p0020"))
    assert re.fullmatch(PLACE, blamed(told.value))
    assert blamed(pickle.loads(pickle.dumps(told.value))) == blamed(told.value)
    assert told.value.__notes__ == [blamed(told.value)]


def test_a_third_run_does_nothing(job_here: Make) -> None:
    job = job_here()
    first, again = run(job, quiet=True), run(job, quiet=True)
    assert (first.encoded, again.encoded) == (40, 0)
    assert again.version == first.version == 1


def test_what_a_job_can_know_it_says_without_a_cluster(job_here: Make) -> None:
    job = job_here()
    run(job, quiet=True)
    run(job, side="query", quiet=True)
    with patch.object(jobs_index, "cluster", side_effect=AssertionError("no Ray is needed")):
        assert run(job, quiet=True).encoded == run(job, side="query", quiet=True).encoded == 0
        assert "nothing was to be encoded; next: crater-ray query" in run(job, quiet=True).as_text()
        assert evaluate.run(job, quiet=True).queries == 20
        for change in ({"rerank": {"k": 3}}, {"backbone": {"batch": 3}}, {"rerank": {"codec": "fp16"}}):
            with pytest.raises(IndexMismatch, match="was made by another index config"):
                run(job_here(**change), quiet=True)
        for change in ({"reader": {"items": 50}}, {"shortlist": {"index": "IVF2,Flat"}}):
            with pytest.raises(AssertionError, match="no Ray is needed"):
                run(job_here(**change), quiet=True)
        (place_of(job, "gallery").local / "versions" / "1.json").unlink()
        with pytest.raises(AssertionError, match="no Ray is needed"):
            run(job, quiet=True)


def test_cached_tokens_give_the_same_bytes_as_fresh_ones(job_here: Make, tmp_path: Path) -> None:
    fresh = job_here("fresh", reader={"bad": ["i00003"]})
    writes = job_here("writes", reader={"bad": ["i00003"]}, backbone={"cache": str(tmp_path / "cache")})
    reads = job_here("reads", reader={"bad": ["i00003"]}, backbone={"cache": str(tmp_path / "cache")})
    for job in (fresh, writes, reads):
        run(job, quiet=True)
    assert files(fresh.out) == files(writes.out) == files(reads.out)
    other_k = job_here(
        "other", reader={"bad": ["i00003"]}, rerank={"k": 3}, backbone={"cache": str(tmp_path / "cache")}
    )
    assert run(other_k, quiet=True).rows == 39


def test_bad_images_are_skipped_with_reasons_and_nothing_else_is_lost(job_here: Make) -> None:
    job = job_here(reader={"bad": ["i00003", "i00017"]})
    report = run(job, quiet=True)
    assert report.rows == 38
    assert set(report.skipped) == {"i00003", "i00017"}
    assert all("image" in reason for reason in report.skipped.values())
    good = job_here("good")
    run(good, quiet=True)
    with_bad, without = Index(job.out), Index(good.out)
    rows = [without.row(id) for id in with_bad.ids]
    assert np.array_equal(
        with_bad.vectors(), without.vectors()[rows]
    )  # neighbours' bytes do not depend on a bad image


@pytest.mark.ray
def test_an_image_that_kills_its_worker_is_left_out_and_counted(make_job: Make) -> None:
    job = make_job(reader={"items": 20, "deadly": ["i00013"]})
    report = run(job, quiet=True)
    assert report.rows == 19
    assert "died" in report.skipped["i00013"]
    assert report.deaths >= 3
    assert verify(store_at(job.out)).problems == ()


@pytest.mark.ray
def test_a_disk_that_does_not_answer_fails_its_part_and_keeps_the_rest(make_job: Make) -> None:
    job = make_job(reader={"items": 20, "raises": ["i00013"]})
    with pytest.raises(IncompleteJob, match=r"1 of 2 parts failed.*does not answer.*1 parts are kept"):
        run(job, quiet=True)
    report = run(job, allow_missing=True, quiet=True)
    assert (report.rows, list(report.missing)) == (10, ["p0010"])
    assert Index(job.out).snapshot.version.allow_missing == ("p0010",)


def test_an_id_listed_twice_is_named(job_here: Make) -> None:
    with pytest.raises(ReaderError, match="'i00000' twice"):
        run(job_here(reader={"twice": True}), quiet=True)


def test_k_above_the_tokens_is_refused_before_any_work(job_here: Make) -> None:
    job = job_here(rerank={"k": 17})
    with pytest.raises(ConfigError, match=r"17.*16 tokens"):
        run(job, quiet=True)
    assert not (job.out / "index.json").exists()


def test_another_config_on_the_same_output_is_refused(job_here: Make) -> None:
    run(job_here(), quiet=True)
    with pytest.raises(IndexMismatch, match="rerank"):
        run(job_here(rerank={"k": 5}), quiet=True)


def test_a_folder_that_is_not_an_index_is_left_alone(job_here: Make) -> None:
    job = job_here()
    job.out.mkdir()
    (job.out / "holiday.jpg").write_bytes(b"dear")
    with pytest.raises(IndexMismatch, match=r"not an index.*holiday\.jpg"):
        run(job, quiet=True)
    assert sorted(path.name for path in job.out.iterdir()) == ["holiday.jpg"]


def test_a_second_driver_is_refused_while_the_first_one_writes(job_here: Make) -> None:
    job = job_here()
    job.out.mkdir()
    with DriverLock(store_at(job.out)), pytest.raises(IndexMismatch, match="another driver"):
        run(job, quiet=True)


@pytest.mark.ray
def test_more_encoders_than_the_cluster_has_cpus_for(make_job: Make) -> None:
    with pytest.raises(ConfigError, match="64 encoders of 1 CPU"):
        run(make_job(cluster={"encoders": 64, "cpus_per_encoder": 1}), quiet=True)


@pytest.mark.ray
def test_growth_adds_a_segment_and_leaves_the_old_parts(make_job: Make) -> None:
    job = make_job(reader={"items": 20})
    run(job, quiet=True)
    before = files(job.out)
    report = run(make_job(reader={"items": 40}), quiet=True)
    assert (report.version, report.encoded) == (2, 20)
    assert before.items() <= files(job.out).items()
    index = audit(job.out, 40)
    assert len(index.snapshot.segments) == 2
    assert_shortlist_is_brute_force(index)
    shrunk = run(make_job(reader={"items": 10}), quiet=True)
    assert (shrunk.version, shrunk.encoded) == (3, 0)
    small = audit(job.out, 10)
    assert {hit.id for hit in small.search(id="i00000", top=40)} == {
        f"i{number:05d}" for number in range(1, 10)
    }
    assert len(Index(job.out, version=2)) == 40  # rollback is a number


def assert_shortlist_is_brute_force(index: Index) -> None:
    """Over whitened vectors, merged over the segments, under a mask."""
    learnt = [index.snapshot.fitted(segment) for segment in index.snapshot.segments]
    assert len({segment.fitted for segment in index.snapshot.segments}) == 1
    assert learnt[0] is not None
    slow = (index.vectors()[:, 0].astype(np.float64) - learnt[0]["centre"]) @ learnt[0]["axes"].T
    slow /= np.linalg.norm(slow, axis=1, keepdims=True)
    mask = np.arange(len(index)) % 3 != 0
    expected = np.where(mask, slow @ slow.T, -np.inf)
    rows, scores = index.local.shard.shortlist(index.vectors(), 12, mask)
    np.testing.assert_allclose(scores, -np.sort(-expected, 1)[:, :12], atol=1e-4)
    np.testing.assert_allclose(np.take_along_axis(expected, rows, 1), scores, atol=1e-4)


def test_a_whitening_is_learnt_again_when_the_index_outgrows_it(job_here: Make) -> None:
    run(job_here(reader={"items": 5}), quiet=True)
    run(job_here(reader={"items": 40}), quiet=True)
    grown = audit(job_here().out, 40)
    assert len(grown.snapshot.segments) == 1
    assert_shortlist_is_brute_force(grown)
    run(job_here(shortlist={"whiten": False}), quiet=True)
    assert [segment.fitted for segment in audit(grown.root, 40).snapshot.segments] == [None]


def test_a_faiss_shortlist_over_everything_is_the_exact_search(job_here: Make) -> None:
    flat, hnsw = job_here("flat"), job_here("sq", shortlist={"index": "SQfp16"})
    for job in (flat, hnsw):
        run(job, quiet=True)
        index = Index(job.out)
        for id in ("i00000", "i00021"):
            exact = index.search(id=id, top=39, mode="exact")
            assert index.search(id=id, top=39, mode="shortlist", candidates=39) == exact
            assert exact[0].group == index.groups[index.row(id)]
    assert (hnsw.out / "segments" / Index(hnsw.out).snapshot.segments[0].sha / "shortlist.faiss").exists()


def test_what_an_aggregator_learns_is_kept_and_used_again(job_here: Make) -> None:
    job = job_here(shortlist={"name": "whitened_mean", "dim": 4})
    run(job, quiet=True)
    index = Index(job.out)
    assert set(index.config.fits) == {"shortlist"}
    assert index.vectors().shape == (40, 1, 4)
    picture = index.image("i00005")
    found = index.search(picture, top=1, mode="shortlist", candidates=5)
    assert found[0].id == "i00005"  # the query goes through the same whitening
    grown = run(job_here(shortlist={"name": "whitened_mean", "dim": 4}, reader={"items": 60}), quiet=True)
    assert grown.encoded == 20  # the fit is the index's own: parts stand
    with pytest.raises(ConfigError, match="dim is 99"):
        run(job_here("wide", shortlist={"name": "whitened_mean", "dim": 99}), quiet=True)


@pytest.mark.parametrize("codec", ["int4", "int1"])
def test_a_few_bits_a_dimension_are_kept_and_searched(job_here: Make, codec: str) -> None:
    job = job_here(rerank={"codec": codec})
    run(job, quiet=True)
    index = Index(job.out)
    assert index.config.codec == codec
    found = index.search(index.image("i00005"), top=1, mode="exact")
    assert found[0].group == "c00002"  # of its two views, drawn almost alike, so few bits may take either
    hit = index.search(id="i00005", top=1, mode="exact", explain=True)[0]
    assert hit.score == pytest.approx(np.mean([pair.similarity for pair in hit.explanation]), abs=1e-4)


def test_queries_may_have_another_number_of_tokens(job_here: Make) -> None:
    job = job_here(rerank={"k": 6, "query_k": 3, "scoring": "mutual"})
    run(job, quiet=True)
    run(job, side="query", quiet=True)
    gallery, queries = Index(job.out), Index(place_of(job, "query").url)
    assert (gallery.config.k, queries.config.k) == (6, 3)
    vectors, tokens = queries.stored(np.arange(20))
    assert tokens.shape == (20, 3, 16)
    found = gallery.local.rank(Queries(vectors, tokens), SearchRequest(mode="exact", top=1))
    assert all(0 <= one.scores[0] <= 1.001 for one in found)
    assert gallery.local.encode(gallery.image("i00005")).tokens.shape == (1, 3, 16)


def test_consistent_takes_every_token_of_a_square_grid(job_here: Make) -> None:
    with pytest.raises(ConfigError, match=r"gives 6 of 4 × 4; use name = 'all'"):
        run(job_here(rerank={"k": 6, "scoring": "consistent"}), quiet=True)
    job = job_here(rerank={"k": 16, "scoring": "consistent"})  # K = T: all of them
    run(job, quiet=True)
    index = Index(job.out)
    (hit,) = index.search(index.image("i00005"), top=1, mode="exact", explain=True)
    assert hit.group == "c00002"
    assert hit.score == pytest.approx(sum(pair.contribution for pair in hit.explanation), abs=1e-5)


@pytest.mark.ray
def test_kill_9_of_an_encoder_inside_a_part_and_then_of_the_driver(
    make_job: Make, driver: Callable[..., subprocess.Popen[str]], ray_cluster: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    gated = {"gate": str(gate), "gate_item": "i00017"}
    job = make_job(reader=gated, cluster={"encoders": 1, "address": ray_cluster})
    first = driver("index", str(job.path))
    worker = _pid_at(gate)
    part = [path.name for path in (job.out / "tmp").iterdir()]
    assert any(
        name.startswith("p0010.") for name in part
    )  # the kill lands inside a part that is being written
    os.kill(worker, signal.SIGKILL)
    second = _pid_at(gate)  # the part is restarted by another worker
    assert second != worker
    first.kill()
    first.wait()
    os.kill(second, signal.SIGKILL)
    gate.unlink()
    again = driver("index", str(job.path), "--json")
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    report = json.loads(out)
    assert report["rows"] == 40
    assert report["encoded"] < 40  # what was done before the kills is kept
    audit(job.out, 40)
    clean = make_job("clean")
    run(clean, quiet=True)
    assert files(clean.out) == files(job.out)


@pytest.mark.ray
def test_a_node_with_other_plugin_versions_is_refused(make_job: Make) -> None:
    from dataclasses import replace

    from crater_ray.jobs.preflight import preflight

    job = make_job()
    old = replace(job.backbone_ref(), version="0.9")
    with pytest.raises(PluginError, match=r"crater-ray-rig 0\.9.*crater-ray-rig 1\.0.*install"):
        preflight(store_at(job.out), job.reader_ref(), old, job.shortlist_ref(), job.rerank_ref())


def _pid_at(gate: Path) -> int:
    """The process that has come to the gate. Blocks until one has."""
    while True:
        with gate.open() as fifo:
            line = fifo.readline()
        if line:  # else the one before was still letting go of its end
            return int(line)
