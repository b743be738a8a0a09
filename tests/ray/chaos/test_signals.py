"""SIGINT and SIGTERM: the driver stops cleanly within ten seconds, leaves no process, and can be resumed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from crater_ray.config import Job
from crater_ray.retrieve import Index

pytestmark = pytest.mark.ray
ITEMS, PATIENCE = 40, 180
WITHIN = 10.0  # seconds, on a machine that has nothing else to do
Command = Callable[..., "Popen[str]"]


def stop(
    job: Job, command: Command, events: Any, number: int, audit: Callable[..., Index], *, group: bool
) -> None:
    """Sends the signal in the middle of the job, and runs the same command again."""
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"{signal.Signals(number).name} is ignored here, as in a shell's background")
    driver = events.of(command("index", str(job.path)))
    workers = set()
    for seen, (_, pid, _) in enumerate(events.loads(driver), 1):
        workers.add(pid)
        if seen == 12:
            break
    started = time.monotonic()
    if group:  # as Ctrl-C does
        os.killpg(driver.pid, number)
    else:
        driver.send_signal(number)
    _, err = driver.communicate(timeout=PATIENCE)
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # others have the cores as well
    assert time.monotonic() - started < WITHIN * busy
    assert driver.returncode == 128 + number, err
    assert (
        err.strip()
        .splitlines()[-1]
        .startswith(f"Stopped by {signal.Signals(number).name}: what a job has done")
    )
    assert "Traceback" not in err
    assert not [pid for pid in workers if _is_encoder(pid)]
    again = command("index", str(job.path), "--json", "--set", "reader.pause=0.0")
    out, err = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, err
    assert json.loads(out)["rows"] == ITEMS
    audit(job.out, ITEMS)


def _is_encoder(pid: int) -> bool:
    try:
        return b"ray::" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


@pytest.mark.fault(
    "SIGTERM to a driver on a running cluster", "stops within 10 s, exit 143; run again, it goes on"
)
def test_sigterm_on_a_running_cluster(
    ray_cluster: str, faulty: Callable[..., Job], command: Command, events: Any, audit: Callable[..., Index]
) -> None:
    cluster = {"cluster": {"address": ray_cluster, "encoders": 1}}
    job = faulty(items=ITEMS, events=events.path, pause=0.1, tables=cluster)
    stop(job, command, events, signal.SIGTERM, audit, group=False)


@pytest.mark.chaos
@pytest.mark.fault(
    "SIGINT or SIGTERM to a driver and its own cluster", "stops within 10 s, nothing is left running"
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("group", [False, True])
def test_signals_to_a_driver_and_its_own_cluster(
    number: int,
    group: bool,
    faulty: Callable[..., Job],
    command: Command,
    events: Any,
    audit: Callable[..., Index],
) -> None:
    job = faulty(items=ITEMS, events=events.path, pause=0.1, tables={"cluster": {"encoders": 1}})
    stop(job, command, events, number, audit, group=group)
