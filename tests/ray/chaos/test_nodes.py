"""Several nodes of one CPU each on this machine: one leaves, one comes, one dies, one has other plugins."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from crater_ray.config import Job
from crater_ray.index.versions import latest
from crater_ray.jobs.index import run

pytestmark = pytest.mark.ray
ITEMS, PATIENCE = 90, 180
Command = Callable[..., "Popen[str]"]
Nodes = Callable[..., Any]
Check = Callable[..., Any]


@pytest.fixture
def on(faulty: Callable[..., Job], events: Any) -> Callable[..., Job]:
    """A job of one encoder a node on a cluster."""

    def make(cluster: Any, encoders: int = 3, pause: float = 0.1) -> Job:
        table = {"address": cluster.address, "encoders": encoders, "cpus_per_encoder": 1.0, "decoders": 1}
        return faulty(items=ITEMS, events=events.path, pause=pause, tables={"cluster": table})

    return make


@pytest.fixture
def clean(here: None, faulty: Callable[..., Job]) -> Path:
    job = faulty("clean", items=ITEMS)
    run(job, quiet=True)
    return job.out


def report(driver: Popen[str]) -> dict[str, Any]:
    out, err = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0, err
    return dict(json.loads(out))


@pytest.mark.chaos
@pytest.mark.fault(
    "a node that lacks a plugin, or has another version", "refused first: node, package, version"
)
@pytest.mark.parametrize(
    ("plugins", "expected"),
    [
        ("none", "needs crater-ray-rig 1.0, which node {node} does not have"),
        (
            "old",
            "crater-ray-rig 1.0 where the job or index was made, but from crater-ray-rig 0.9 on node {node}; "
            "install crater-ray-rig==1.0 there",
        ),
    ],
)
def test_a_node_with_other_plugins_is_refused(
    plugins: str, expected: str, nodes: Nodes, faulty: Callable[..., Job], command: Command, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(Path(os.environ["PYTHONPATH"].split(os.pathsep)[0]), old)
    (told,) = old.glob("*.dist-info/METADATA")
    told.write_text(told.read_text().replace("Version: 1.0", "Version: 0.9"))
    cluster = nodes(workers=0)
    cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(old) if plugins == "old" else ""})
    job = faulty(items=20, tables={"cluster": {"address": cluster.address, "encoders": 1}})
    _, err = (driver := command("index", str(job.path))).communicate(timeout=PATIENCE)
    assert driver.returncode == 2, err
    assert expected.format(node=os.uname().nodename) in err
    assert latest(job.out) is None


@pytest.mark.chaos
@pytest.mark.fault("three nodes, in peace", "each encodes, every item once")
def test_three_nodes(
    nodes: Nodes,
    on: Callable[..., Job],
    command: Command,
    events: Any,
    clean: Path,
    audit: Check,
    same_parts: Check,
) -> None:
    job = on(nodes())
    driver = events.of(command("index", str(job.path), "--json"))
    loads = list(events.loads(driver))
    assert {node for node, _, _ in loads} == {"-", "n1", "n2"}
    assert sorted(id for _, _, id in loads) == [f"i{number:05d}" for number in range(ITEMS)]  # none twice
    told = report(driver)
    assert (told["encoded"], told["deaths"]) == (ITEMS, 0)
    audit(job.out, ITEMS)
    same_parts(job.out, clean)


@pytest.mark.chaos
@pytest.mark.fault("a node is removed in the middle of a job", "the others do its parts")
def test_a_node_is_removed(
    nodes: Nodes,
    on: Callable[..., Job],
    command: Command,
    events: Any,
    clean: Path,
    audit: Check,
    same_parts: Check,
) -> None:
    cluster = nodes()
    job = on(cluster)
    driver = events.of(command("index", str(job.path), "--json"))
    gone = _node(cluster, "n1")
    for node, _, _ in events.loads(driver):
        if node == "n1":
            cluster.remove_node(gone, allow_graceful=False)
            break
    for _ in events.loads(driver):
        pass
    assert report(driver)["deaths"] >= 1
    audit(job.out, ITEMS)
    same_parts(job.out, clean)


@pytest.mark.chaos
@pytest.mark.fault("kill -9 of the raylet of another node", "the others do its parts")
def test_the_raylet_of_another_node_is_killed(
    nodes: Nodes,
    on: Callable[..., Job],
    command: Command,
    events: Any,
    clean: Path,
    audit: Check,
    same_parts: Check,
) -> None:
    cluster = nodes()
    job = on(cluster)
    driver = events.of(command("index", str(job.path), "--json"))
    for node, _, _ in events.loads(driver):
        if node == "n2":
            _node(cluster, "n2").kill_raylet()
            break
    for _ in events.loads(driver):
        pass
    assert report(driver)["deaths"] >= 1
    audit(job.out, ITEMS)
    same_parts(job.out, clean)


@pytest.mark.chaos
@pytest.mark.fault("a node is removed and another joins in the middle of a job", "it takes over")
def test_a_node_joins(
    nodes: Nodes,
    on: Callable[..., Job],
    command: Command,
    events: Any,
    clean: Path,
    audit: Check,
    same_parts: Check,
) -> None:
    cluster = nodes(workers=1)
    job = on(cluster, encoders=2, pause=0.5)
    driver = events.of(command("index", str(job.path), "--json"))
    for node, _, _ in events.loads(driver):
        if node == "n1":
            cluster.remove_node(_node(cluster, "n1"), allow_graceful=False)
            cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20, env_vars={"RIG_NODE": "n9"})
            break
    assert "n9" in {node for node, _, _ in events.loads(driver)}
    report(driver)
    audit(job.out, ITEMS)
    same_parts(job.out, clean)


@pytest.mark.chaos
@pytest.mark.fault(
    "every node with a CPU for an encoder leaves and none comes", "one line, exit 1; then it goes on"
)
def test_no_node_is_left(
    nodes: Nodes, faulty: Callable[..., Job], command: Command, events: Any, audit: Check
) -> None:
    cluster = nodes(workers=1)
    table = {"address": cluster.address, "encoders": 1, "cpus_per_encoder": 1.0, "stall_seconds": 15.0}
    job = faulty(items=20, events=events.path, pause=0.5, tables={"cluster": table})
    hog = cluster.add_node(num_cpus=2)  # the only one that the job below fits
    driver = events.of(command("index", str(job.path), "--set", "cluster.cpus_per_encoder=2"))
    next(events.loads(driver))
    cluster.remove_node(hog, allow_graceful=False)
    _, err = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 1, err
    assert "no node has taken an encoder of 2 CPU" in err
    assert report(command("index", str(job.path), "--json"))["rows"] == 20
    audit(job.out, 20)


def _node(cluster: Any, name: str) -> Any:
    """The node that was started under a name."""
    (found,) = [node for node in cluster.worker_nodes if node._ray_params.env_vars["RIG_NODE"] == name]
    return found
