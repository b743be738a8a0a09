"""One Ray cluster for the session, whose workers see the rig plugin; jobs run here or in a real driver."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from crater_ray.config import Job, load_job
from crater_ray.evaluation import encoded as evaluation_encoded
from crater_ray.index.store import Store
from crater_ray.jobs import index as jobs_index
from crater_ray.jobs import preflight as jobs_preflight
from crater_ray.jobs.part import PartWorker
from crater_ray.jobs.pool import Outcome
from crater_ray.jobs.segment import build
from crater_ray.plugins import registry

SITE = Path(__file__).parent / "site"


@pytest.fixture(scope="session")
def rig() -> Iterator[None]:
    """The rig plugin, installed as a stranger's package is: on sys.path, with a dist-info."""
    before = os.environ.get("PYTHONPATH")
    sys.path.insert(0, str(SITE))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SITE), before]))
    registry.cache_clear()
    yield
    sys.path.remove(str(SITE))
    os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)
    registry.cache_clear()


@pytest.fixture(scope="session")
def ray_cluster(rig: None, storage_environment: str) -> Iterator[str]:
    """The address of a cluster of this machine that thinks it has four CPUs."""
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    context = ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=150 * 2**20,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield str(context.address_info["gcs_address"])
    ray.shutdown()


@pytest.fixture
def make_job(write_job: Callable[..., Job], ray_cluster: str) -> Callable[..., Job]:
    """As `write_job`, to be run in this process, on the session's cluster."""
    return write_job


@pytest.fixture
def write_job(tmp_path: Path, rig: None) -> Callable[..., Job]:
    """A job over the rig's disks: keyword tables replace the defaults, `reader={"items": 12}`."""

    def make(name: str = "job", **tables: Mapping[str, Any]) -> Job:
        job: dict[str, dict[str, Any]] = {
            "reader": {"name": "disks"},
            "queries": {"name": "disks", "items": 20},
            "backbone": {"name": "fake"},
            "shortlist": {"name": "mean"},
            "rerank": {"name": "instance_tokens", "k": 6, "codec": "int8"},
            "cluster": {"encoders": 1, "cpus_per_encoder": 0.5, "threads": 1},
        }
        for table, values in tables.items():
            job[table] = {**job.get(table, {}), **values}
        path = tmp_path / f"{name}.toml"
        path.write_text(f'out = "{name}"\n' + "".join(_table(key, values) for key, values in job.items()))
        return load_job(path)

    return make


@pytest.fixture
def here(rig: None) -> Iterator[None]:
    """Index jobs compute in this process: no Ray, and so none of its seconds."""

    def looked(store: Store, reader: Any, backbone: Any, shortlist: Any, rerank: Any, job: str) -> Any:
        store.put("tmp/preflight", b"")  # which Ray's nodes look for
        look = jobs_preflight._look._function
        found = look(store.url, "preflight", job, reader, backbone, shortlist, rerank)
        store.remove("tmp/preflight")
        return found

    def worked(work: Any, parts: Any, table: Any, report: Any) -> Outcome:
        worker = PartWorker(work)
        return Outcome({part: worker.encode(part) for part in parts})

    def fitted(work: Any, roles: Any, table: Any, sample: int, seed: int, quiet: bool) -> dict[str, str]:
        reader = PartWorker(work).reader
        items = [item for part in reader.parts() for item in reader.read(part)]
        return {role: PartWorker(work).fit(role, items[:sample], seed) for role in roles}

    with (
        patch.object(evaluation_encoded, "cluster", lambda table: nullcontext()),
        patch.object(jobs_index, "cluster", lambda table: nullcontext()),
        patch.object(jobs_index, "preflight", looked),
        patch.object(jobs_index, "fit", fitted),
        patch.object(jobs_index, "work_through", worked),
        patch.object(jobs_index, "on_cluster", build),
    ):
        yield


@pytest.fixture
def job_here(write_job: Callable[..., Job], here: None) -> Callable[..., Job]:
    """As `write_job`, to be run in this process without Ray: for what a job does, not its workers."""
    return write_job


@pytest.fixture
def driver(command: Callable[..., subprocess.Popen[str]], ray_cluster: str) -> Any:
    """As `command`, while the session's cluster runs."""
    return command


@pytest.fixture
def command(rig: None) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `crater-ray …`, or Python with other arguments, as a process of its own, and group."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, python: tuple[str, ...] = ("-m", "crater_ray.cli")) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *python, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _table(name: str, values: Mapping[str, Any]) -> str:
    lines = [f"{key} = {_toml(value)}\n" for key, value in values.items()]
    return f"\n[{name}]\n" + "".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
