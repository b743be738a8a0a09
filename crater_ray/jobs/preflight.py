"""Checks on every node, in seconds, that the job can run there: first on its CPU, then on its GPU."""

from __future__ import annotations

import os
import uuid
import warnings
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from crater_ray.config import ClusterTable
from crater_ray.encoders import fitting
from crater_ray.errors import ClusterError, ConfigError, PluginError
from crater_ray.index.store import TMP, Store, store_at
from crater_ray.jobs.encoder_actor import EncoderActor
from crater_ray.jobs.nodes import Checked, roomy
from crater_ray.jobs.ray_errors import DEATHS, answer, last_line, unable
from crater_ray.plugins import Aggregator, Asymmetric, Backbone, PluginRef, registry
from crater_ray.plugins.blame import blaming
from crater_ray.types import TokenShape

PATIENCE = 120.0  # seconds for all nodes to try their GPUs: torch may come from a slow disk


@dataclass(frozen=True, slots=True)
class Found:
    """What the named objects turned out to be on one node."""

    node: str
    digest: str  # of the backbone's weights
    shape: TokenShape
    shortlist_dim: int
    shortlist_m: int
    k: int
    dim: int
    query_m: int  # shortlist vectors and tokens of a query, where they are not the gallery's
    query_k: int
    fitted: tuple[str, ...]  # the roles that learn from a sample


def preflight(
    store: Store,
    reader: PluginRef,
    backbone: PluginRef,
    shortlist: PluginRef,
    rerank: PluginRef,
    job: str = "the job",
) -> Found:
    """What every node agrees on.

    Raises PluginError when a node lacks a package or has another version or other weights, ConfigError when
    an aggregator does not fit the backbone, ClusterError when a node does not see the output folder or is
    lost meanwhile, StorageFull.
    """
    mark = f"preflight.{uuid.uuid4().hex}"
    store.put(f"{TMP}/{mark}", b"")
    try:
        nodes = [
            node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0
        ]
        asked = [
            _look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
                store.url, mark, job, reader, backbone, shortlist, rerank
            )
            for node in nodes
        ]
        found: list[Found] = [answer(ref) for ref in asked]
    finally:
        store.remove(f"{TMP}/{mark}")
    for other in found[1:]:
        if other.digest != found[0].digest:
            raise PluginError(
                f"backbone {backbone.name!r} has other weights on node {other.node} ({other.digest}) than on "
                f"{found[0].node} ({found[0].digest}); give every node the same file"
            )
    return found[0]


def unfit(table: ClusterTable) -> dict[str, str]:
    """id -> why of each node whose GPU does not compute, found by an actor that holds it; the job warns.

    Nothing where no GPU is asked for. A node whose GPUs are all taken is not waited for: an encoder that
    starts there later looks again. Raises ClusterError when no node has a GPU that computes.
    """
    if table.gpus_per_encoder <= 0:
        return {}
    nodes = roomy(table)
    probes = {
        node: EncoderActor.options(
            num_cpus=0,
            num_gpus=table.gpus_per_encoder,
            max_restarts=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        ).remote()
        for node in nodes
    }
    try:
        looks = {node: probe.check.remote("cuda") for node, probe in probes.items()}
        ray.wait(list(looks.values()), num_returns=len(looks), timeout=PATIENCE) if looks else None
        faults = {node: fault for node, look in looks.items() if (fault := _fault(look)) is not None}
    finally:
        for probe in probes.values():
            ray.kill(probe, no_restart=True)
    told = sorted(f"node {nodes[node]}: {fault}" for node, fault in faults.items())
    if faults and len(faults) == len(nodes):
        raise ClusterError(
            f"no node has a GPU that computes: {'; '.join(told)}; mend the driver, or set "
            "[cluster] gpus_per_encoder = 0"
        )
    for line in told:
        warnings.warn(f"{line}; the node takes no part", stacklevel=2)
    return faults


def _fault(look: Any) -> str | None:
    """Why a GPU does not compute; None where it does, or has not answered yet."""
    if not ray.wait([look], timeout=0)[0]:
        return None
    try:
        checked: Checked = ray.get(look)
    except DEATHS as error:
        return f"the worker died that tried its GPU: {last_line(error)}"
    except RayError as error:
        raise unable(error) from None
    return checked.fault


@ray.remote(num_cpus=0, max_retries=1)
@blaming
def _look(
    address: str,
    mark: str,
    job: str,
    reader: PluginRef,
    backbone: PluginRef,
    shortlist: PluginRef,
    rerank: PluginRef,
) -> Found:
    node = os.uname().nodename
    if not _sees(address, mark, node):
        raise ClusterError(
            f"node {node} does not see the output folder {address}; put it where every node can write"
        )
    registry().build(reader)
    built: Backbone = registry().build(backbone)
    shape = built.shape
    roles: dict[str, Aggregator] = {}
    for role, ref in (("shortlist", shortlist), ("rerank", rerank)):
        try:
            roles[role] = registry().build(ref, shape)
        except (ValueError, ConfigError) as error:
            raise ConfigError(
                f"[{role}] {ref.name!r} in {job} does not fit backbone {backbone.name!r}: {error}"
            ) from None
    one, many = roles["shortlist"], roles["rerank"]
    return Found(
        node,
        built.digest,
        shape,
        one.dim,
        one.k,
        many.k,
        many.dim,
        one.query_k if isinstance(one, Asymmetric) else one.k,
        many.query_k if isinstance(many, Asymmetric) else many.k,
        fitting(shortlist, rerank),
    )


def _sees(address: str, mark: str, node: str) -> bool:
    """Whether a node sees what the driver left in tmp/."""
    try:
        return mark in store_at(address).names(TMP)
    except ConfigError as error:
        raise ConfigError(f"node {node}: {error.message}") from None
