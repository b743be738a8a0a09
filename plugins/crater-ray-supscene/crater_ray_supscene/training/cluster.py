"""Where a run works: one driver an `out`, a Ray cluster, and what went wrong in a worker of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from crater_ray.errors import ConfigError, CraterRayError
from crater_ray.files import lock_file
from crater_ray_supscene.training.job import TrainJob


@contextmanager
def cluster(job: TrainJob, say: Callable[[str], None]) -> Iterator[TrainJob]:
    """Connected inside, left as found; the job with its GPUs settled by what Ray has, which is said.

    Ray knows the GPUs of every node; this driver's machine may have none. Raises ClusterError, or ConfigError
    for more than the cluster has.
    """
    import ray

    from crater_ray.jobs.cluster import connected, enough

    with connected(job.cluster.address):
        have = float(ray.cluster_resources().get("GPU", 0.0))
        table = job.cluster.settled(have)
        if job.cluster.gpus_per_worker == "auto":
            on = "a GPU each" if table.gpus else "CPUs"
            say(f"gpus_per_worker = 'auto': Ray has {have:g} GPUs, {table.workers} workers train on {on}")
        enough(table.workers, "worker", cpus=table.cpus_per_worker, gpus=table.gpus)
        yield job.model_copy(update={"cluster": table})


@contextmanager
def locked(out: Path) -> Iterator[None]:
    handle = lock_file(out / ".lock")
    if handle is None:
        raise ConfigError(f"{out} is in use by another training; wait for it, or name another `out`")
    try:
        yield
    finally:
        os.close(handle)


def cause(error: BaseException) -> CraterRayError:
    """What went wrong in a worker: our own error as it was, or the last line of another."""
    inner: BaseException | None = error
    while inner is not None:
        inside = getattr(inner, "cause", None)  # of Ray's wrapping, which may be of our type as well
        if inside is None and isinstance(inner, CraterRayError):
            return inner
        inner = inside or inner.__cause__
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return CraterRayError(f"training failed: {lines[-1] if lines else type(error).__name__}")
