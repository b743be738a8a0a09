"""A Ray cluster to work on: this machine's own, or a running one by address."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import ray

from crater_ray.config import ClusterTable
from crater_ray.errors import ConfigError
from crater_ray.jobs.heartbeat import Heartbeat
from crater_ray.ray_log import ray_apart
from crater_ray.start import start


@contextmanager
def cluster(table: ClusterTable) -> Iterator[None]:
    """Connected inside, and left as it was found outside.

    Raises ClusterError when the address does not answer, ConfigError when it has fewer CPUs or GPUs than the
    encoders ask for.
    """
    with connected(table.address, table.runtime_env):
        enough(table.encoders, "encoder", cpus=table.cpus_per_encoder, gpus=table.gpus_per_encoder)
        yield


@contextmanager
def connected(address: str | None, runtime_env: dict[str, Any] | None = None) -> Iterator[None]:
    """Connected to the cluster at `address`, or to one of this machine's own; left as it was found.

    Raises ClusterError when it does not answer or start, and when its head is lost meanwhile.
    """
    if ray.is_initialized():
        yield
        return
    # our standard output is for data: what is printed meanwhile is none
    with ray_apart(), redirect_stdout(sys.stderr):
        handler = signal.getsignal(signal.SIGTERM)
        start(address, runtime_env)
        if handler not in (signal.SIG_DFL, None) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # ray.init puts its own there
        watch = Heartbeat()
        try:
            with watch:
                yield
        except BaseException as error:
            if watch.lost:
                raise watch.error() from error
            raise
        finally:
            ray.shutdown()


def enough(count: int, what: str, *, cpus: float, gpus: float) -> None:
    """Raises ConfigError when the cluster has less than `count` times what each of them, a `what`, takes."""
    have = ray.cluster_resources()
    for resource, each in (("CPU", cpus), ("GPU", gpus)):
        need, got = count * each, float(have.get(resource, 0.0))
        if need > got:
            raise ConfigError(
                f"[cluster] asks for {count} {what}s of {each:g} {resource} = {need:g}, but the "
                f"cluster has {got:g}; lower {what}s or {resource.lower()}s_per_{what}"
            )


def threads_per_encoder(table: ClusterTable) -> int:
    """Torch threads of one encoder: as configured, else this machine's cores shared out."""
    return table.threads or max(1, (os.cpu_count() or 1) // table.encoders)
