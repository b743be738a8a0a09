"""Nodes of the cluster: where a worker runs, and which nodes are given no more work."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any

import ray

from crater_ray.config import ClusterTable
from crater_ray.errors import ClusterError

IN_A_ROW = 3  # failures on one node, with no part done there in between, before it is given no more work


@dataclass(frozen=True, slots=True)
class Node:
    """One node, as it names itself."""

    id: str  # Ray's
    name: str  # of its host


@dataclass(frozen=True, slots=True)
class Checked:
    """A worker that has started."""

    node: Node
    fault: str | None  # why its device does not compute


def here() -> Node:
    """The node of the worker that asks."""
    return Node(ray.get_runtime_context().get_node_id(), os.uname().nodename)


def alive(id: str) -> bool:
    """Whether the node is still part of the cluster."""
    return any(node["NodeID"] == id and node["Alive"] for node in ray.nodes())


def roomy(table: ClusterTable) -> dict[str, str]:
    """id -> host name of the nodes that an encoder of that size fits on, whatever runs there now."""
    wanted = {"CPU": table.cpus_per_encoder, "GPU": table.gpus_per_encoder}
    return {
        node["NodeID"]: node["NodeManagerHostname"]
        for node in ray.nodes()
        if node["Alive"] and all(node["Resources"].get(what, 0) >= much for what, much in wanted.items())
    }


class Nodes:
    """Which nodes take part. A node leaves whose device does not compute, or where one part after another
    fails that other nodes have not failed on.

    `without` are the ids of those that never took part.
    """

    def __init__(self, table: ClusterTable, without: tuple[str, ...] = ()) -> None:
        self._table = table
        self._without: dict[str, str] = dict.fromkeys(without, "its device does not compute")  # id -> why
        self._parts: dict[str, set[str]] = {}  # id -> parts that failed there, since the last one done
        self._checks: Counter[str] = Counter()

    def options(self) -> dict[str, Any]:
        """Of an actor: not there. Raises ClusterError when no node is left."""
        if not self._without:
            return {}
        if not self._left():
            told = "; ".join(sorted(set(self._without.values())))
            raise ClusterError(
                f"no node is left for an encoder: {told}; mend the nodes, then run again: what is done is "
                "kept"
            )
        return {"label_selector": {"ray.io/node-id": f"!in({','.join(sorted(self._without))})"}}

    def done(self, node: Node) -> None:
        """A part was done there."""
        self._parts.pop(node.id, None)
        self._checks.pop(node.id, None)

    def unfit(self, node: Node, why: str) -> None:
        """A worker that started there cannot compute."""
        self._checks[node.id] += 1
        if self._checks[node.id] >= IN_A_ROW:
            self._leaves(node, f"node {node.name}: {why}")

    def failed(self, node: Node, part: str, why: str) -> None:
        """A worker ended there while it worked on the part."""
        for other, parts in self._parts.items():
            if other != node.id and part in parts:  # then it was not the other node's fault
                parts.discard(part)
                self._without.pop(other, None)
        parts = self._parts.setdefault(node.id, set())
        parts.add(part)
        if len(parts) >= IN_A_ROW and self._left() - {node.id}:
            self._leaves(node, f"node {node.name}: {why}")

    def _leaves(self, node: Node, why: str) -> None:
        if node.id not in self._without:
            self._without[node.id] = why
            warnings.warn(f"{why}; {IN_A_ROW} times in a row: it gets no more work", stacklevel=3)

    def _left(self) -> set[str]:
        return roomy(self._table).keys() - self._without.keys()
