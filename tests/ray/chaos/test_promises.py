"""Readers and backbones that break their promises: said in one line, and nothing wrong is published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from crater_ray.config import Job
from crater_ray.errors import IncompleteJob, PluginError, ReaderError
from crater_ray.index.store import store_at
from crater_ray.index.versions import latest
from crater_ray.jobs.index import run
from crater_ray.retrieve import Index

Faulty = Callable[..., Job]
Audit = Callable[..., Index]
STALL = 20.0  # seconds: a busy machine takes more than 10 to build a worker, which is no stall


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.fault("a reader that raises on the third item it lists", "its part is missing, the rest is kept")
def test_a_reader_that_raises_on_the_third_item(ray_cluster: str, faulty: Faulty, audit: Audit) -> None:
    job = faulty(items=20, fault="unlisted", at=["i00012"])
    with pytest.raises(
        IncompleteJob, match=r"1 of 2 parts failed.*p0010.*middle of a line.*1 parts are kept"
    ):
        run(job, quiet=True)
    assert run(faulty(items=20), quiet=True).encoded == 10
    audit(job.out, 20)


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.fault(
    "a reader that raises on the third image it loads", "its part is missing, the rest is kept"
)
def test_a_reader_that_raises_on_the_third_image(ray_cluster: str, faulty: Faulty, audit: Audit) -> None:
    job = faulty(items=20, fault="error", at=["i00012"])
    with pytest.raises(IncompleteJob, match=r"part p0010: RuntimeError: the reader's own fault"):
        run(job, quiet=True)
    run(faulty(items=20), quiet=True)
    audit(job.out, 20)


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.fault("an id that two parts list", "refused by name, no version is published")
def test_an_id_that_two_parts_list(ray_cluster: str, faulty: Faulty, audit: Audit) -> None:
    job = faulty(items=20, fault="again", at=["i00012"])
    with pytest.raises(ReaderError, match="'i00000' stands in part p0000 and in part p0010"):
        run(job, quiet=True)
    assert latest(store_at(job.out)) is None
    assert run(faulty(items=20), quiet=True).encoded == 10  # the other part stands
    audit(job.out, 20)


@pytest.mark.fault("a backbone that gives NaN for some images", "they are left out, counted, with the reason")
def test_nan_for_some_images(here: None, faulty: Faulty, audit: Audit) -> None:
    job = faulty(items=20, tables={"backbone": {"name": "faulty_backbone", "fault": "nan of the first"}})
    report = run(job, quiet=True)
    bad = ("i00000", "i00008", "i00010", "i00018")  # the first of each batch of 8, in parts of 10
    assert report.skipped == dict.fromkeys(bad, "the backbone gave NaN")
    audit(job.out, 20, without=bad)


@pytest.mark.fault("a backbone that gives NaN for every image", "no version of nothing is published")
def test_nan_for_all_images(here: None, faulty: Faulty) -> None:
    job = faulty(items=20, tables={"backbone": {"name": "faulty_backbone", "fault": "nan"}})
    with pytest.raises(
        IncompleteJob, match=r"not one of 20 images could be used.*i00000: the backbone gave NaN"
    ):
        run(job, quiet=True)
    assert latest(store_at(job.out)) is None


@pytest.mark.fault("a backbone or aggregator that gives other shapes", "the job ends at once, naming it")
@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            {"backbone": {"name": "faulty_backbone", "fault": "fewer tokens"}},
            r"FaultyBackbone gave patches \(8, 15, 16\), but promised \(8, 16, 16\)",
        ),
        (
            {"backbone": {"name": "faulty_backbone", "fault": "fewer images"}},
            r"FaultyBackbone gave patches \(7, 16, 16\)",
        ),
        (
            {"backbone": {"name": "faulty_backbone", "fault": "no class token"}},
            r"FaultyBackbone gave cls None, but promised \(8, 16\)",
        ),
        ({"shortlist": {"name": "wrong_k"}}, r"WrongK gave \(8, 3, 16\), but promised \(8, 2, 16\)"),
    ],
)
def test_other_shapes(here: None, faulty: Faulty, tables: dict[str, dict[str, str]], message: str) -> None:
    job = faulty(items=40, tables=tables)
    with pytest.raises(PluginError, match=message):
        run(job, quiet=True)
    assert latest(store_at(job.out)) is None
    assert not list(Path(job.out).glob("parts/*"))


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.fault(
    "an image whose decoder takes the process with it (SIGSEGV)", "left out, counted; the job ends"
)
def test_an_image_that_crashes_the_decoder(ray_cluster: str, faulty: Faulty, audit: Audit) -> None:
    job = faulty(items=20, fault="segfault", at=["i00003", "i00013"])
    report = run(job, quiet=True)
    assert set(report.skipped) == {"i00003", "i00013"}
    assert all("died or hung 2 times" in reason for reason in report.skipped.values())
    assert report.deaths == 8  # two before anybody suspects an image, two on it, in each part
    audit(job.out, 20, without=("i00003", "i00013"))
    assert not list((job.out / "tmp").glob("*.journal"))


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.fault(
    "the same image in the sample that aggregators learn from", "left out there and in its part"
)
def test_an_image_that_crashes_the_fit(ray_cluster: str, faulty: Faulty, audit: Audit) -> None:
    learns = {"shortlist": {"name": "whitened_mean", "dim": 4}}
    job = faulty(items=10, fault="segfault", at=["i00003"], tables=learns)
    assert set(run(job, quiet=True).skipped) == {"i00003"}
    audit(job.out, 10, without=("i00003",))


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.fault("a reader that hangs on an image", "its worker is ended; left out in the end, counted")
def test_a_reader_that_hangs(ray_cluster: str, faulty: Faulty, audit: Audit) -> None:
    job = faulty(items=20, fault="hang", at=["i00013"], tables={"cluster": {"stall_seconds": STALL}})
    report = run(job, quiet=True)
    assert set(report.skipped) == {"i00013"}
    assert report.deaths == 4
    audit(job.out, 20, without=("i00013",))
