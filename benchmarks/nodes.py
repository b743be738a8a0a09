"""A job over nodes in network namespaces: in peace, a link down, one unplugged, one joining, one refused.

python benchmarks/nodes.py [--images 480] [--pause 0.25] [--down 20] [--json]     (as root; needs iproute2)

Three namespaces hang on one bridge: head, b and c, each a Ray node of one CPU with a network stack and a host
name of its own; no packet leaves them. The images are the test rig's, each load takes `--pause` seconds.
Every row ends with an audit: each item exactly once, every checksum, the bytes of the run in peace.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from table import Report, arguments, show

from crater_ray.index.store import store_at

SITE = Path(__file__).resolve().parents[1] / "tests" / "ray" / "site"
PORT = 6379
NODES = {"head": "10.211.77.1", "b": "10.211.77.2", "c": "10.211.77.3"}
START, END = 120.0, 400.0  # seconds that a node may take to start, a job to end


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"ip {' '.join(words)}: {done.stderr.strip()}; this needs root and iproute2")


class Net:
    """The namespaces, gone when it is left, with every process in them."""

    def __init__(self) -> None:
        self.prefix = f"crater{os.getpid()}"
        self._token = secrets.token_hex(32)  # that the nodes know each other by

    def name(self, node: str) -> str:
        return f"{self.prefix}-{node}"

    def __enter__(self) -> Net:
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _make(self) -> None:
        for node in NODES:
            ip("netns", "add", self.name(node))
            ip("-n", self.name(node), "link", "set", "lo", "up")
        head = self.name("head")
        ip("-n", head, "link", "add", "bridge", "type", "bridge")
        ip("-n", head, "addr", "add", f"{NODES['head']}/24", "dev", "bridge")
        ip("-n", head, "link", "set", "bridge", "up")
        for node in ("b", "c"):
            other = ["peer", "name", "cable", "netns", self.name(node)]
            ip("-n", head, "link", "add", f"to-{node}", "type", "veth", *other)
            ip("-n", head, "link", "set", f"to-{node}", "master", "bridge", "up")
            ip("-n", self.name(node), "addr", "add", f"{NODES[node]}/24", "dev", "cable")
            ip("-n", self.name(node), "link", "set", "cable", "up")

    def __exit__(self, *_: object) -> None:
        for node in NODES:
            if self.name(node) in subprocess.run(["ip", "netns"], capture_output=True, text=True).stdout:
                self.clear(node)
                ip("netns", "del", self.name(node))

    def link(self, node: str, state: str) -> None:
        """`up` or `down`: the head's end of a node's cable."""
        ip("-n", self.name("head"), "link", "set", f"to-{node}", state)

    def clear(self, node: str) -> None:
        """kill -9 of all that runs in a namespace."""
        while pids := self._pids(node):
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.1)

    def _pids(self, node: str) -> list[int]:
        told = subprocess.run(
            ["ip", "netns", "pids", self.name(node)], capture_output=True, text=True, check=True
        )
        return [int(pid) for pid in told.stdout.split()]

    def run(
        self, node: str, *words: str, plugins: bool = True, told: bool = False, log: Path
    ) -> subprocess.Popen[str]:
        """A process on a node, with the host name cr-<node>; its output is kept for the caller if `told`."""
        environment = {**os.environ, "RIG_NODE": node, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
        environment |= {"PYTHONPATH": str(SITE) if plugins else ""}
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self._token}
        hosted = ["unshare", "--uts", "sh", "-c", f'hostname cr-{node}; exec "$@"', "sh", *words]
        with log.open("w") as file:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.name(node), *hosted],
                env=environment,
                stdout=subprocess.PIPE if told else file,
                stderr=file,
                text=True,
                start_new_session=True,
            )


class Loads:
    """Who loaded which image when, as the rig's reader says it."""

    def __init__(self, fifo: Path) -> None:
        os.mkfifo(fifo)
        self.seen: list[tuple[float, str, str]] = []  # seconds, node, id
        self._changed = threading.Condition()
        self._file = os.fdopen(os.open(fifo, os.O_RDWR), "r")
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._file:
            node, _, id = line.split()
            with self._changed:
                self.seen.append((time.monotonic(), node, id))
                self._changed.notify_all()

    def until(self, there: Callable[[list[tuple[float, str, str]]], bool]) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: there(self.seen), END):
                sys.exit("the job did not get on")

    def silence(self, node: str) -> float:
        """The longest time between two images of a node."""
        times = [at for at, who, _ in self.seen if who == node]
        return max((after - before for before, after in pairwise(times)), default=0.0)


class Bench:
    """One cluster on the namespaces, and jobs on it."""

    def __init__(self, net: Net, folder: Path, images: int, pause: float) -> None:
        self.net, self.folder, self.images, self.pause = net, folder, images, pause
        self.first: Path | None = None

    def start(self, node: str, plugins: bool = True) -> None:
        """A Ray node; returns when it says that it runs."""
        where = ["--head", f"--port={PORT}", f"--temp-dir={self.folder}/ray", "--include-dashboard=false"]
        if node != "head":
            where = [f"--address={NODES['head']}:{PORT}"]
        common = [
            f"--node-ip-address={NODES[node]}",
            "--num-cpus=1",
            "--object-store-memory=80000000",
            "--block",
        ]
        words = [str(Path(sys.executable).with_name("ray")), "start", *where, *common]
        log = self.folder / f"{node}.log"
        started = self.net.run(node, *words, plugins=plugins, log=log)
        limit = time.monotonic() + START
        while "Ray runtime started" not in log.read_text():
            if started.poll() is not None or time.monotonic() > limit:
                sys.exit(f"node {node} did not start: {log.read_text()[-2000:]}")
            time.sleep(0.2)

    def job(self, name: str) -> tuple[subprocess.Popen[str], Loads, Path]:
        """The driver, on the head."""
        folder = self.folder / name
        folder.mkdir()
        (folder / "job.toml").write_text(
            f'out = "index"\n[reader]\nname = "faulty"\nitems = {self.images}\nper_part = 12\n'
            f'events = "events"\npause = {self.pause}\n'
            '[backbone]\nname = "fake"\n[shortlist]\nname = "mean"\n'
            '[rerank]\nname = "instance_tokens"\nk = 6\ncodec = "int8"\n'
            "[cluster]\nencoders = 2\nthreads = 1\ndecoders = 1\n"
            f'address = "{NODES["head"]}:{PORT}"\n'
        )
        loads = Loads(folder / "events")
        words = [sys.executable, "-m", "crater_ray.cli", "index", str(folder / "job.toml"), "--json"]
        return self.net.run("head", *words, told=True, log=folder / "driver.log"), loads, folder

    def refused(self, name: str) -> str:
        """What the driver says when it ends with exit 2."""
        driver, _, folder = self.job(name)
        driver.communicate(timeout=END)
        said = (folder / "driver.log").read_text().strip()
        if driver.returncode != 2:
            sys.exit(f"{name} was not refused: {said}")
        return said

    def measured(self, name: str, meanwhile: Callable[[Loads], None]) -> dict[str, Any]:
        """One row: the job, what happens meanwhile, and the audit."""
        began = time.monotonic()
        driver, loads, folder = self.job(name)
        meanwhile(loads)
        out, _ = driver.communicate(timeout=END)
        if driver.returncode:
            sys.exit(f"{name}: {(folder / 'driver.log').read_text()[-2000:]}")
        report = json.loads(out)
        return {
            "seconds": time.monotonic() - began,
            "loads": Counter(node for _, node, _ in loads.seen),
            "again": len(loads.seen) - len({id for _, _, id in loads.seen}),
            "silence_b": loads.silence("b"),
            "deaths": report["deaths"],
            "audit": self._audit(folder / "index"),
        }

    def _audit(self, root: Path) -> int:
        """Items that are there exactly once. Ends the program where a checksum or a byte is wrong."""
        from crater_ray.index.verify import verify
        from crater_ray.retrieve import Index

        problems = verify(store_at(root)).problems
        ids = Counter(Index(root).ids)
        self.first = self.first or root
        same = (
            subprocess.run(["diff", "-r", self.first / "parts", root / "parts"], check=False).returncode == 0
        )
        if problems or not same:
            sys.exit(f"{root}: {problems}, the bytes of the run in peace: {same}")
        return sum(ids[f"i{number:05d}"] == 1 for number in range(self.images)) - (len(ids) - self.images)


@contextmanager
def bench(images: int, pause: float) -> Iterator[Bench]:
    folder = Path(tempfile.mkdtemp(prefix="nodes"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield Bench(stack.enter_context(Net()), folder, images, pause)


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=480)
    parser.add_argument("--pause", type=float, default=0.25, help="seconds that each load of an image takes")
    parser.add_argument("--down", type=float, default=20.0, help="seconds that the link is down")
    given = parser.parse_args()
    told: dict[str, dict[str, Any]] = {}

    def working(node: str, images: int) -> Callable[[list[tuple[float, str, str]]], bool]:
        return lambda seen: sum(who == node for _, who, _ in seen) >= images

    with bench(given.images, given.pause) as running:
        running.start("head")
        running.start("b")

        def link_down(loads: Loads) -> None:
            loads.until(working("b", 8))
            running.net.link("b", "down")
            time.sleep(given.down)
            running.net.link("b", "up")

        def unplugged(loads: Loads) -> None:
            loads.until(working("b", 8))
            running.net.link("b", "down")
            running.start("c")

        told["two nodes in peace"] = running.measured("peace", lambda loads: None)
        told[f"the link to b down for {given.down:g} s"] = running.measured("down", link_down)
        told["b unplugged for good, c joins"] = running.measured("unplugged", unplugged)
        running.net.clear("c")
        running.net.clear("b")
        running.net.link("b", "up")
        running.start("b", plugins=False)
        said = running.refused("refused")
    show(report(told, said, given.images), given, ray=version("ray"))
    if any(row["audit"] != given.images for row in told.values()):
        sys.exit("an audit failed")


def report(told: dict[str, dict[str, Any]], said: str, images: int) -> Report:
    columns = (
        "what happens",
        "items once",
        "images loaded on head",
        "b",
        "c",
        "again",
        "deaths",
        "b silent",
        "s",
    )
    rows = []
    for name, row in told.items():
        loads = [row["loads"].get(node, 0) for node in NODES]
        times = f"{row['silence_b']:.1f} s", f"{row['seconds']:.0f}"
        rows.append((name, f"{row['audit']} of {images}", *loads, row["again"], row["deaths"], *times))
    keys = {"items_once": float(min(row["audit"] for row in told.values()))}
    notes = [f"A node without the plugin: `{said}`"]
    return Report("Nodes in network namespaces", columns, rows, keys, {"items_once": str(images)}, notes)


if __name__ == "__main__":
    main()
