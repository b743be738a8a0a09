"""Where a run works: one driver an `out`, a Ray cluster, and what went wrong in a worker of it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crater_ray.errors import ConfigError, CraterRayError
from crater_ray_supscene.training.job import TrainJob


@contextmanager
def cluster(job: TrainJob) -> Iterator[None]:
    """Connected inside, left as found. Raises ClusterError, or ConfigError for more than the cluster has."""
    from crater_ray.jobs.cluster import connected, enough

    table = job.cluster
    with connected(table.address):
        enough(table.workers, "worker", cpus=table.cpus_per_worker, gpus=table.gpus_per_worker)
        yield


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
