"""Devices that fail: a broken context, no memory, no driver. No GPU: a backbone raises their errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import pytest
import torch

from crater_ray.config import Job
from crater_ray.errors import ClusterError, ConfigError, DeviceError, IncompleteJob
from crater_ray.jobs.index import batch_of, run
from crater_ray.jobs.journal import Careful
from crater_ray.jobs.part import PartWorker, Work
from crater_ray.retrieve import Index, open_index
from crater_ray.serve.encoder import QueryEncoder
from crater_ray.testing.fakes import FailingBackbone

Faulty = Callable[..., Job]
Audit = Callable[..., Index]
Same = Callable[[Path, Path], None]


def failing(**options: Any) -> dict[str, dict[str, Any]]:
    return {"backbone": {"name": "failing_backbone", **options}}


@pytest.fixture
def clean(here: None, faulty: Faulty) -> Path:
    job = faulty("clean", items=40)
    run(job, quiet=True)
    return job.out


@pytest.fixture
def works(here: None, monkeypatch: pytest.MonkeyPatch) -> list[Work]:
    """The Work of each job that is run."""
    from crater_ray.jobs import index as jobs_index

    found: list[Work] = []
    inner = jobs_index.work_through

    def watched(work: Work, *rest: Any) -> Any:
        found.append(work)
        return inner(work, *rest)

    monkeypatch.setattr(jobs_index, "work_through", watched)
    return found


@pytest.mark.ray
@pytest.mark.fault("a CUDA context breaks on one worker", "another does its part; every item once")
@pytest.mark.parametrize("fault", ["cuda", "host memory"])
def test_a_broken_context_on_one_worker(
    fault: str, ray_cluster: str, faulty: Faulty, tmp_path: Path, audit: Audit
) -> None:
    job = faulty(items=40, tables=failing(fault=fault, after=1, once=str(tmp_path / "once")))
    report = run(job, quiet=True)
    assert (report.deaths, report.missing) == (1, {})
    audit(job.out, 40)


@pytest.mark.ray
@pytest.mark.fault("a part under which every device fails", "three workers, then the part is missing")
def test_a_part_that_breaks_three_workers(ray_cluster: str, faulty: Faulty) -> None:
    job = faulty(items=10, tables=failing(fault="accelerator", after=0))
    with pytest.raises(
        IncompleteJob,
        match=r"p0000: the device failed under it in 3 workers, the last on node \S+: cpu failed",
    ):
        run(job, quiet=True)


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.fault("devices fail under whatever is computed", "the job ends with one line, it does not loop")
def test_devices_that_only_fail(ray_cluster: str, faulty: Faulty) -> None:
    job = faulty(items=90, tables=failing(fault="cuda", after=0))
    with pytest.raises(
        ClusterError, match=r"9 encoder workers died one after another.*illegal memory access"
    ):
        run(job, quiet=True)


@pytest.mark.ray
@pytest.mark.fault("a CUDA context breaks while a sample is learnt from", "another worker learns it")
def test_a_broken_context_in_the_fit(ray_cluster: str, faulty: Faulty, tmp_path: Path, audit: Audit) -> None:
    learns = {"shortlist": {"name": "whitened_mean", "dim": 4}}
    tables = failing(fault="cuda", after=0, once=str(tmp_path / "once")) | learns
    job = faulty(items=10, tables=tables)
    assert run(job, quiet=True).missing == {}
    audit(job.out, 10)


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.fault("no node has a GPU that computes", "one line that names node and reason")
def test_no_driver(nodes: Callable[..., Any], faulty: Faulty, command: Callable[..., Popen[str]]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    cluster = nodes(workers=0)
    cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=80 * 2**20)  # says that it has one
    table = {"address": cluster.address, "encoders": 1, "gpus_per_encoder": 1}
    driver = command("index", str(faulty(items=10, tables={"cluster": table}).path))
    _, err = driver.communicate(timeout=120)
    assert driver.returncode == 1, err
    line = err.strip().splitlines()[-1]
    assert line.startswith("Error: no node has a GPU that computes: node ")
    assert ": cuda does not compute: " in line
    assert "Traceback" not in err


@pytest.mark.fault("memory does not hold a batch", "it is computed in halves, and the job says so")
def test_no_memory_for_a_batch(here: None, faulty: Faulty, audit: Audit, clean: Path) -> None:
    job = faulty(items=40, tables=failing(fault="memory", above=4))
    report = run(job, quiet=True)
    assert report.halved == 8  # two batches in each of four parts
    assert "8 batches did not fit the memory" in report.as_text()
    assert "[backbone] batch" in report.as_text()
    audit(job.out, 40)
    for name in ("codes.bin", "vectors.npy"):
        there = [path.read_bytes() for path in sorted(job.out.glob(f"parts/*/{name}"))]
        assert there == [path.read_bytes() for path in sorted(clean.glob(f"parts/*/{name}"))]


@pytest.mark.fault("tokens leave the device while the next batch is computed", "the same bytes")
def test_one_thread_behind_another(
    works: list[Work], faulty: Faulty, tmp_path: Path, same_parts: Same, clean: Path
) -> None:
    works.clear()
    run(faulty("made", items=40), quiet=True)
    (work,) = works
    for cache in (None, str(tmp_path / "tokens"), str(tmp_path / "tokens")):  # none, written, read
        root = tmp_path / f"behind-{len(works)}"
        works.append(work)
        worker = PartWorker(
            Work(str(root), work.config, work.reader, cache, work.decoders, work.threads, work.device)
        )
        worker.behind = 2
        for part in worker.reader.parts():
            worker.encode(part)
        assert worker.encoded == 40
        same_parts(root, clean)


@pytest.mark.fault("the thread behind fails", "the part fails, and nothing of it is left")
def test_the_thread_behind_fails(works: list[Work], faulty: Faulty, tmp_path: Path, monkeypatch: Any) -> None:
    run(faulty("made", items=10), quiet=True)
    (work,) = works
    root = tmp_path / "behind"
    worker = PartWorker(Work(str(root), work.config, work.reader, None, 2, 1, "cpu"))
    worker.behind = 1

    def broken(*given: Any) -> Any:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(worker.encoder, "rows", broken)
    with pytest.raises(DeviceError, match="device-side assert"):
        worker.encode("p0000")
    assert list((root / "tmp").iterdir()) == []


@pytest.mark.fault("two interruptions at one image, then two deaths", "kept after those, skipped after these")
def test_interruptions_and_deaths_at_one_image(works: list[Work], faulty: Faulty, tmp_path: Path) -> None:
    run(faulty("made", items=10), quiet=True)
    (work,) = works
    root = tmp_path / "stopped"

    class Gone(BaseException):
        """The worker's end."""

    def ends_at_the_third(attempt: str, died: tuple[str, ...]) -> None:
        worker = PartWorker(Work(str(root), work.config, work.reader, None, 2, 1, "cpu"))
        load = worker.reader.load

        def loaded(uri: str) -> Any:
            if uri == "i00003":
                raise Gone
            return load(uri)

        worker.reader.load = loaded  # type: ignore[method-assign]
        with pytest.raises(Gone):
            worker.encode("p0000", Careful(attempt, died))

    for attempt in ("one", "two", "three"):
        ends_at_the_third(attempt, ())
    ends_at_the_third("four", ("one",))  # one death alone
    worker = PartWorker(Work(str(root), work.config, work.reader, None, 2, 1, "cpu"))
    assert worker.encode("p0000", Careful("five", ("one", "four"))).entry.skipped == 1


@pytest.mark.fault("the device of a served encoder fails", "it says that it is not healthy, and is replaced")
def test_a_served_encoder_says_that_its_device_failed(here: None, faulty: Faulty) -> None:
    job = faulty(items=10)
    run(job, quiet=True)
    encoder = QueryEncoder(job.out, threads=1)
    picture = np.zeros((32, 32, 3), np.uint8)
    encoder._one.backbone = FailingBackbone("cuda", after=1)
    encoder.encode([picture], [False])
    encoder.check_health()
    with pytest.raises(DeviceError, match="illegal memory access"):
        encoder.encode([picture], [False])
    with pytest.raises(DeviceError, match="illegal memory access"):
        encoder.check_health()


@pytest.mark.fault("a job without a batch goes from CPUs to GPUs", "its index keeps the batch it has")
def test_an_index_keeps_its_batch(here: None, faulty: Faulty) -> None:
    small, large = faulty(items=10), faulty(items=10, tables={"cluster": {"gpus_per_encoder": 1}})
    assert batch_of(large, "gallery") == 64
    run(small, quiet=True)
    assert batch_of(large, "gallery") == 8
    assert batch_of(large, "query") == 64


@pytest.mark.fault("a query on a device that is not here", "one line")
def test_a_query_on_a_named_device(here: None, faulty: Faulty) -> None:
    job = faulty(items=10)
    run(job, quiet=True)
    picture = open_index(job.out).image("i00003")
    asked = [open_index(job.out, device=name).search(picture, top=3) for name in ("cpu", "cpu:0")]
    assert asked[0] == asked[1]
    with pytest.raises(ConfigError, match="no device of torch's"):
        open_index(job.out, device="gpu")
