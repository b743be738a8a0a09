"""Drivers stopped or killed, twice, while a careful worker has one good image in hand: it is kept."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from crater_ray.config import Job
from crater_ray.jobs.pool import CAREFUL_AFTER
from crater_ray.retrieve import Index

pytestmark = [pytest.mark.ray, pytest.mark.chaos]
ITEMS, PATIENCE = 20, 120
IMAGE = "i00013"


@pytest.mark.fault(
    "two interruptions at one image (SIGTERM, then kill -9 of the driver)",
    "the image is indexed all the same",
)
def test_two_interruptions_at_one_image(
    write_job: Callable[..., Job],
    driver: Callable[..., Popen[str]],
    ray_cluster: str,
    tmp_path: Path,
    audit: Callable[..., Index],
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    table: dict[str, Any] = {"encoders": 1, "address": ray_cluster}
    reader = {"items": ITEMS, "gate": str(gate), "gate_item": IMAGE}
    job = write_job(reader=reader, cluster=table)
    for number in (signal.SIGTERM, signal.SIGKILL):
        running = driver("index", str(job.path))
        for _ in range(CAREFUL_AFTER):
            os.kill(_pid_at(gate), signal.SIGKILL)  # these deaths are nobody's: no journal was kept yet
        _pid_at(gate)  # a careful worker has the image in hand
        running.send_signal(number)
        running.communicate(timeout=PATIENCE)
    gate.unlink()
    out, err = (last := driver("index", str(job.path), "--json")).communicate(timeout=PATIENCE)
    assert last.returncode == 0, err
    assert (json.loads(out)["rows"], json.loads(out)["skipped"]) == (ITEMS, {})
    audit(job.out, ITEMS)


def _pid_at(gate: Path) -> int:
    """The process that has come to the gate. Blocks until one has."""
    while True:
        with gate.open() as fifo:
            line = fifo.readline()
        if line:  # else the one before was still letting go of its end
            return int(line)
