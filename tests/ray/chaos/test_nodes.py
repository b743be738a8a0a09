"""Several nodes of one CPU each on this machine: one leaves, one comes, one dies, one has other plugins."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from crater_ray.config import Job
from crater_ray.index.store import store_at
from crater_ray.index.versions import latest
from crater_ray.jobs.index import run

pytestmark = pytest.mark.ray
ITEMS, PATIENCE = 90, 180
Command = Callable[..., "Popen[str]"]
Nodes = Callable[..., Any]
Check = Callable[..., Any]


class Scene:
    """A job over several nodes, what its workers load, and what must hold once it has ended."""

    def __init__(self, nodes: Nodes, faulty: Callable[..., Job], command: Command, events: Any) -> None:
        self._nodes, self._faulty, self._command, self._events = nodes, faulty, command, events

    def start(self, workers: int = 2, pause: float = 0.1) -> None:
        self.cluster = self._nodes(workers=workers)
        table = {
            "address": self.cluster.address,
            "encoders": workers + 1,
            "cpus_per_encoder": 1.0,
            "decoders": 1,
        }
        tables = {"cluster": table}
        self.job = self._faulty(items=ITEMS, events=self._events.path, pause=pause, tables=tables)
        self._driver = self._events.of(self._command("index", str(self.job.path), "--json"))

    def until(self, node: str) -> Any:
        """Waits until that node has loaded an image."""
        assert any(node == where for where, _, _ in self._events.loads(self._driver)), f"{node} did nothing"
        (found,) = [one for one in self.cluster.worker_nodes if one._ray_params.env_vars["RIG_NODE"] == node]
        return found

    def ends(self) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        """What the command reports, and (node, id) of every load from here on."""
        loads = [(node, id) for node, _, id in self._events.loads(self._driver)]
        return report(self._driver), loads


@pytest.fixture
def scene(
    nodes: Nodes,
    faulty: Callable[..., Job],
    command: Command,
    events: Any,
    here: None,
    audit: Check,
    same_parts: Check,
) -> Iterator[Scene]:
    """Ends with an audit: every item once, in the bytes of a job that nothing happened to."""
    clean = faulty("clean", items=ITEMS)
    run(clean, quiet=True)
    played = Scene(nodes, faulty, command, events)
    yield played
    audit(played.job.out, ITEMS)
    same_parts(played.job.out, clean.out)


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
    assert latest(store_at(job.out)) is None


@pytest.mark.chaos
@pytest.mark.fault("three nodes, in peace", "each encodes, every item once")
def test_three_nodes(scene: Scene) -> None:
    scene.start()
    told, loads = scene.ends()
    assert {node for node, _ in loads} == {"-", "n1", "n2"}
    assert sorted(id for _, id in loads) == [f"i{number:05d}" for number in range(ITEMS)]  # none twice
    assert (told["encoded"], told["deaths"]) == (ITEMS, 0)


@pytest.mark.chaos
@pytest.mark.fault("a node is removed in the middle of a job", "the others do its parts")
def test_a_node_is_removed(scene: Scene) -> None:
    scene.start()
    scene.cluster.remove_node(scene.until("n1"), allow_graceful=False)
    told, _ = scene.ends()
    assert told["deaths"] >= 1


@pytest.mark.chaos
@pytest.mark.fault("kill -9 of the raylet of another node", "the others do its parts")
def test_the_raylet_of_another_node_is_killed(scene: Scene) -> None:
    scene.start()
    scene.until("n2").kill_raylet()
    told, _ = scene.ends()
    assert told["deaths"] >= 1


@pytest.mark.chaos
@pytest.mark.fault("a node is removed and another joins in the middle of a job", "it takes over")
def test_a_node_joins(scene: Scene) -> None:
    scene.start(workers=1, pause=0.5)
    scene.cluster.remove_node(scene.until("n1"), allow_graceful=False)
    scene.cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20, env_vars={"RIG_NODE": "n9"})
    _, loads = scene.ends()
    assert "n9" in {node for node, _ in loads}


@pytest.mark.chaos
@pytest.mark.fault(
    "every node with a CPU for an encoder leaves and none comes", "one line, exit 1; then it goes on"
)
def test_no_node_is_left(
    nodes: Nodes, faulty: Callable[..., Job], command: Command, events: Any, audit: Check
) -> None:
    cluster = nodes(workers=1)
    table = {"address": cluster.address, "encoders": 1, "cpus_per_encoder": 1.0, "stall_seconds": 30.0}
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
