"""Where a run works: one driver an `out`, a Ray cluster, and what went wrong in a worker of it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crater_ray.errors import ClusterError, ConfigError, CraterRayError
from crater_ray_supscene.training.job import TrainJob

STORE_BYTES = 150 * 2**20  # of the object store: big arrays go through files


@contextmanager
def cluster(job: TrainJob) -> Iterator[None]:
    """Connected inside, left as found. Raises ClusterError, or ConfigError for more than the cluster has."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ours = not ray.is_initialized()
    table = job.cluster
    if ours:
        local = {} if table.address else {"include_dashboard": False, "object_store_memory": STORE_BYTES}
        try:
            ray.init(address=table.address or "local", log_to_driver=False, logging_level="ERROR", **local)
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = table.address or "this machine"
            raise ClusterError(f"no Ray cluster at {where}: {error}; leave cluster.address out") from error
    try:
        have = ray.cluster_resources()
        for name, each in (("CPU", table.cpus_per_worker), ("GPU", table.gpus_per_worker)):
            if table.workers * each > have.get(name, 0.0):
                raise ConfigError(
                    f"[cluster] asks for {table.workers} workers of {each:g} {name}, but the cluster has "
                    f"{have.get(name, 0.0):g}; lower workers or {name.lower()}s_per_worker"
                )
        yield
    finally:
        if ours:
            ray.shutdown()


@contextmanager
def locked(out: Path) -> Iterator[None]:
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"{out} is in use by another training; wait for it, or name another `out`"
            ) from None
        yield


def cause(error: BaseException) -> CraterRayError:
    """What went wrong in a worker: our own error as it was, or the last line of another."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, CraterRayError):
            return inner
        inner = getattr(inner, "cause", None) or inner.__cause__
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return CraterRayError(f"training failed: {lines[-1] if lines else type(error).__name__}")
