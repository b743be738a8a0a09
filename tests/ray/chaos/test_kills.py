"""kill -9 of whatever a job consists of, at random; and drivers that do not know of each other."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from crater_ray.config import Job
from crater_ray.jobs.index import run
from crater_ray.retrieve import Index

pytestmark = [pytest.mark.ray, pytest.mark.chaos]
SEEDS = max(1, int(os.environ.get("CRATER_RAY_CHAOS_SEEDS", "1")) // 4)
ITEMS = 60
PATIENCE = 120  # seconds for a driver to end
Command = Callable[..., "Popen[str]"]
Audit = Callable[..., Index]
Same = Callable[[Path, Path], None]

LOCKLESS = """
import errno, fcntl, os
def flock(handle, how):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
fcntl.flock = flock
from crater_ray.cli import main
main()
"""


@pytest.fixture
def clean(here: None, faulty: Callable[..., Job]) -> Path:
    job = faulty("clean", items=ITEMS)
    run(job, quiet=True)
    return job.out


def ended(process: Popen[str], code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, err
    return out, err


def children(pid: int, name: str) -> list[int]:
    """The processes of that name below a driver, and below their parents."""

    def below(parent: int) -> Iterator[int]:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            for child in map(int, task.read_text().split()):
                yield child
                yield from below(child)

    return [one for one in below(pid) if Path(f"/proc/{one}/comm").read_text().strip() == name]


@pytest.mark.fault(
    "kill -9 of encoders and of drivers, at random images", "every item once, the bytes of a run in peace"
)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_kills_at_random(
    seed: int,
    ray_cluster: str,
    faulty: Callable[..., Job],
    command: Command,
    events: Any,
    kill_worker: Callable[[int], None],
    clean: Path,
    audit: Audit,
    same_parts: Same,
) -> None:
    chance = random.Random(seed)
    cluster = {"address": ray_cluster, "encoders": 2}
    job = faulty(items=ITEMS, events=events.path, pause=0.03, tables={"cluster": cluster})
    driver = events.of(command("index", str(job.path)))
    for _ in range(3):
        victim, after = chance.choice(["encoder", "driver"]), chance.randint(1, 20)
        for number, (_, pid, _) in enumerate(events.loads(driver), 1):
            if number == after:
                driver.kill() if victim == "driver" else kill_worker(pid)
                break
        if victim == "driver":
            driver.wait(PATIENCE)
            driver = events.of(command("index", str(job.path)))
    for _ in events.loads(driver):
        pass  # until it has ended
    ended(driver)
    audit(job.out, ITEMS)
    same_parts(job.out, clean)


@pytest.mark.fault(
    "kill -9 of the raylet that the driver works through", "one line, exit 1; run again, it goes on"
)
def test_the_drivers_own_raylet_is_killed(
    faulty: Callable[..., Job], command: Command, events: Any, clean: Path, audit: Audit, same_parts: Same
) -> None:
    job = faulty(items=ITEMS, events=events.path, pause=0.1, tables={"cluster": {"encoders": 1}})
    driver = events.of(command("index", str(job.path)))
    for number, _ in enumerate(events.loads(driver), 1):
        if number == 15:
            os.kill(children(driver.pid, "raylet")[0], signal.SIGKILL)
            break
    _, err = ended(driver, 1)
    assert err.strip().splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in err
    report = json.loads(ended(command("index", str(job.path), "--json", "--set", "reader.pause=0.0"))[0])
    assert report["rows"] == ITEMS
    audit(job.out, ITEMS)
    same_parts(job.out, clean)


@pytest.mark.fault("kill -9 of the head (GCS)", "one line within 60 s, exit 1; on a new cluster it goes on")
def test_the_head_is_killed(
    faulty: Callable[..., Job], command: Command, events: Any, clean: Path, audit: Audit, same_parts: Same
) -> None:
    job = faulty(items=ITEMS, events=events.path, pause=3.0, tables={"cluster": {"encoders": 1}})
    driver = events.of(command("index", str(job.path)))
    for number, _ in enumerate(events.loads(driver), 1):
        if number == 15:
            os.kill(children(driver.pid, "gcs_server")[0], signal.SIGKILL)
            break
    _, err = ended(driver, 1)
    assert "the head of the Ray cluster" in err.strip().splitlines()[-1]
    report = json.loads(ended(command("index", str(job.path), "--json", "--set", "reader.pause=0.0"))[0])
    assert report["rows"] == ITEMS
    audit(job.out, ITEMS)
    same_parts(job.out, clean)


@pytest.mark.fault(
    "two drivers on one output", "the second is refused by name; where there are no locks, both end well"
)
def test_two_drivers_on_one_output(
    ray_cluster: str,
    faulty: Callable[..., Job],
    command: Command,
    events: Any,
    clean: Path,
    audit: Audit,
    same_parts: Same,
) -> None:
    cluster = {"address": ray_cluster, "encoders": 1}
    job = faulty(items=ITEMS, events=events.path, pause=2.0, tables={"cluster": cluster})
    first = events.of(command("index", str(job.path)))
    next(events.loads(first))
    _, err = ended(command("index", str(job.path)), 2)
    assert f"another driver (pid {first.pid}" in err
    first.kill()  # the kernel frees the lock
    first.wait(PATIENCE)
    ended(command("index", str(job.path), "--set", "reader.pause=0.0"))
    audit(job.out, ITEMS)

    job = faulty("lockless", items=ITEMS, tables={"cluster": cluster})
    both = [command("index", str(job.path), "--json", python=("-c", LOCKLESS)) for _ in range(2)]
    told = [json.loads(ended(driver)[0]) for driver in both]
    assert {report["rows"] for report in told} == {ITEMS}
    audit(job.out, ITEMS)
    same_parts(job.out, clean)
