"""Which nodes are given no more work, and what a look at their GPUs leads to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from crater_ray.config import ClusterTable
from crater_ray.errors import ClusterError
from crater_ray.jobs import nodes as jobs_nodes
from crater_ray.jobs import preflight
from crater_ray.jobs.nodes import Checked, Node, Nodes

A, B = Node("a" * 56, "one"), Node("b" * 56, "two")
TABLE = ClusterTable(gpus_per_encoder=1)


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    monkeypatch.setattr(jobs_nodes, "roomy", lambda table: {A.id: A.name, B.id: B.name})
    return Nodes(TABLE)


def without(nodes: Nodes) -> str:
    return str(nodes.options().get("label_selector", {}).get("ray.io/node-id", ""))


def test_a_node_whose_device_never_computes_leaves(two: Nodes) -> None:
    two.unfit(A, "no driver")
    two.unfit(A, "no driver")
    assert without(two) == ""
    with pytest.warns(UserWarning, match="node one: no driver; 3 times in a row: it gets no more work"):
        two.unfit(A, "no driver")
    assert without(two) == f"!in({A.id})"
    two.unfit(A, "no driver")  # is told once
    two.unfit(B, "too hot")
    two.unfit(B, "too hot")
    with pytest.warns(UserWarning, match="node two"):
        two.unfit(B, "too hot")
    with pytest.raises(
        ClusterError, match="no node is left for an encoder: node one: no driver; node two: too"
    ):
        two.options()


def test_a_part_done_in_between_is_a_new_start(two: Nodes) -> None:
    for part in ("p1", "p2", "p1", "p2"):  # one part alone does not speak against a node
        two.failed(A, part, "cuda failed")
    two.done(A)
    two.failed(A, "p3", "cuda failed")
    assert without(two) == ""


def test_one_part_after_the_other_fails_there(two: Nodes) -> None:
    two.failed(A, "p1", "cuda failed")
    two.failed(A, "p2", "cuda failed")
    with pytest.warns(UserWarning, match="node one: cuda failed"):
        two.failed(A, "p3", "cuda failed")
    assert without(two) == f"!in({A.id})"
    two.failed(B, "p2", "workers die there")  # then it was the part's fault
    assert without(two) == ""


def test_the_last_node_stays_whatever_parts_do(two: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_nodes, "roomy", lambda table: {A.id: A.name})
    for part in ("p1", "p2", "p3", "p4"):
        two.failed(A, part, "workers die there")
    assert without(two) == ""


def test_nodes_that_never_took_part(two: Nodes) -> None:
    assert without(Nodes(TABLE, (B.id,))) == f"!in({B.id})"


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """node -> fault; a probe of a node that is not there has not answered."""
    faults: dict[str, str | None] = {}
    killed: list[Any] = []

    class Probe:
        @staticmethod
        def options(scheduling_strategy: Any, num_gpus: float, **_: Any) -> Any:
            assert num_gpus == 1
            node = scheduling_strategy.node_id
            check = SimpleNamespace(remote=lambda device: node)
            return SimpleNamespace(remote=lambda: SimpleNamespace(check=check))

    def wait(refs: list[str], num_returns: int = 1, timeout: float = 0) -> tuple[list[str], list[str]]:
        return [ref for ref in refs if ref in faults], [ref for ref in refs if ref not in faults]

    fake = SimpleNamespace(
        wait=wait,
        get=lambda ref: Checked(Node(ref, ref), faults[ref]),
        kill=lambda probe, **_: killed.append(probe),
    )
    monkeypatch.setattr(preflight, "ray", fake)
    monkeypatch.setattr(preflight, "EncoderActor", Probe)
    monkeypatch.setattr(preflight, "roomy", lambda table: {A.id: A.name, B.id: B.name})
    return faults


def test_a_node_without_a_driver_takes_no_part_and_is_named(looked: dict[str, str | None]) -> None:
    looked.update({A.id: None, B.id: "cuda does not compute: no driver"})
    with pytest.warns(
        UserWarning, match="node two: cuda does not compute: no driver; the node takes no part"
    ):
        assert preflight.unfit(TABLE) == {B.id: "cuda does not compute: no driver"}


def test_a_node_that_has_not_answered_is_not_blamed(looked: dict[str, str | None]) -> None:
    looked.update({A.id: None})
    assert preflight.unfit(TABLE) == {}
    assert preflight.unfit(ClusterTable()) == {}  # no GPU is asked for


def test_no_node_computes(looked: dict[str, str | None]) -> None:
    looked.update({A.id: "no driver", B.id: "too hot"})
    with pytest.raises(
        ClusterError, match=r"no node has a GPU that computes: node one: no driver; node two: too"
    ):
        preflight.unfit(TABLE)
