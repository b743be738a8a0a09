"""A Ray cluster to work on: this machine's own, or a running one by address."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from crater_ray.config import ClusterTable
from crater_ray.errors import ClusterError, ConfigError

LOCAL_STORE_BYTES = 200 * 2**20  # big arrays go to files, so the object store carries only plain data


@contextmanager
def cluster(table: ClusterTable) -> Iterator[None]:
    """Connected inside, and left as it was found outside.

    Raises ClusterError when the address does not answer, ConfigError when it has fewer CPUs or GPUs than the
    encoders ask for.
    """
    ours = not ray.is_initialized()
    if ours:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        local = (
            {} if table.address else {"include_dashboard": False, "object_store_memory": LOCAL_STORE_BYTES}
        )
        try:
            ray.init(
                address=table.address or "local",
                log_to_driver=False,
                logging_level="ERROR",
                runtime_env=table.runtime_env or None,
                **local,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ClusterError(
                f"no Ray cluster at {table.address or 'this machine'}: {error}; "
                "start one with `ray start --head`, or leave cluster.address out"
            ) from error
    try:
        _enough(table, ray.cluster_resources())
        yield
    finally:
        if ours:
            ray.shutdown()


def threads_per_encoder(table: ClusterTable) -> int:
    """Torch threads of one encoder: as configured, else this machine's cores shared out."""
    return table.threads or max(1, (os.cpu_count() or 1) // table.encoders)


def _enough(table: ClusterTable, have: dict[str, Any]) -> None:
    for resource, each in (("CPU", table.cpus_per_encoder), ("GPU", table.gpus_per_encoder)):
        need, got = table.encoders * each, float(have.get(resource, 0.0))
        if need > got:
            raise ConfigError(
                f"[cluster] asks for {table.encoders} encoders of {each:g} {resource} = {need:g}, but the "
                f"cluster has {got:g}; lower encoders or {resource.lower()}s_per_encoder"
            )
