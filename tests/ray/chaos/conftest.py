"""What faults are made and judged with: jobs in this process, events of workers, clusters of nodes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from crater_ray.config import Job
from crater_ray.index.store import store_at
from crater_ray.index.verify import verify
from crater_ray.retrieve import Index


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("fault"):
            item.user_properties += list(zip(("fault", "happens"), mark.args, strict=True))


@pytest.fixture
def audit(request: pytest.FixtureRequest) -> Callable[..., Index]:
    """`audit(root, items)`: i00000 … each exactly once but those `without`, every checksum good."""

    def check(root: Path, items: int, without: tuple[str, ...] = ()) -> Index:
        index = Index(root, threads=1)
        wanted = [f"i{number:05d}" for number in range(items)]
        assert sorted(index.ids) == [id for id in wanted if id not in without]
        found = verify(store_at(root))
        assert found.problems == ()
        request.node.user_properties.append(("audited", items))
        return index

    return check


@pytest.fixture
def same_parts() -> Callable[[Path, Path], None]:
    """Byte for byte what another run made."""

    def files(root: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in sorted((root / "parts").rglob("*"))
            if path.is_file()
        }

    def check(one: Path, other: Path) -> None:
        assert files(one) == files(other)

    return check


class Events:
    """What workers load ("node pid id") and which drivers have ended ("end pid"), as it happens."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._file = os.fdopen(os.open(path, os.O_RDWR), "r")  # also writing: there is no end of the file

    def of(self, process: Popen[str]) -> Popen[str]:
        def wait() -> None:
            process.wait()
            self._say(f"end {process.pid}")

        threading.Thread(target=wait, daemon=True).start()
        return process

    def loads(self, process: Popen[str]) -> Iterator[tuple[str, int, str]]:
        """(node, pid, id) of each load until the driver has ended."""
        for line in self._file:
            words = line.split()
            if words == ["end", str(process.pid)]:
                return
            if len(words) == 3:
                yield words[0], int(words[1]), words[2]

    def _say(self, line: str) -> None:
        with self.path.open("w") as fifo:
            fifo.write(line + "\n")

    def close(self) -> None:
        self._file.close()


@pytest.fixture
def events(tmp_path: Path) -> Iterator[Events]:
    found = Events(tmp_path / "events")
    yield found
    found.close()


@pytest.fixture
def kill_worker() -> Callable[[int], None]:
    """kill -9 of a Ray worker; of nothing else that has got its pid since."""

    def kill(pid: int) -> None:
        with suppress(ProcessLookupError, FileNotFoundError):
            if b"ray::" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)

    return kill


@pytest.fixture
def faulty(write_job: Callable[..., Job]) -> Callable[..., Job]:
    """A job over the reader that fails on demand: `faulty("name", items=…, fault=…, at=[…])`."""

    def make(name: str = "job", tables: dict[str, Any] | None = None, **reader: Any) -> Job:
        told = {key: str(value) if isinstance(value, Path) else value for key, value in reader.items()}
        return write_job(name, **{"reader": {"name": "faulty", **told}, **(tables or {})})

    return make


@pytest.fixture
def nodes(rig: None) -> Iterator[Callable[..., Any]]:
    """Starts a cluster of its own: a head of one CPU and that many nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    started: list[Any] = []

    def start(workers: int = 2) -> Any:
        light = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
        head = Cluster(initialize_head=True, head_node_args={**light, "include_dashboard": False})
        started.append(head)
        for number in range(workers):
            head.add_node(**light, env_vars={"RIG_NODE": f"n{number + 1}"})
        return head

    yield start
    for cluster in started:
        cluster.shutdown()
