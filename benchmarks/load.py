"""A service of our own under load: started, asked, counted by the time requests END, its processes known."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

IMAGE = "an image"  # what stands for an id among expected hits
IMAGE_CANDIDATES = 100
Body = dict[str, Any] | bytes  # JSON, or an image, which is searched with IMAGE_CANDIDATES
Check = Callable[[Body, dict[str, Any]], str]  # "" or what is wrong with a reply


@dataclass(frozen=True)
class Service:
    """A `crater-ray serve` process."""

    url: str
    pid: int
    ready_seconds: float

    def processes(self, name: str = "") -> dict[int, str]:
        """Every process below it whose title holds `name`."""
        tree: dict[int, list[int]] = {}
        titles: dict[int, str] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                titles[int(entry.name)] = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                )
            except (OSError, ValueError):  # it ended meanwhile
                continue
            tree.setdefault(parent, []).append(int(entry.name))
        found, waiting = {}, [self.pid]
        while waiting:
            pid = waiting.pop()
            waiting += tree.get(pid, [])
            if name in titles.get(pid, ""):
                found[pid] = titles[pid]
        return found

    def memory(self) -> dict[str, int]:
        """Bytes each of its processes has to itself (USS), by title and pid: mapped files do not count."""
        found = {}
        for pid, title in self.processes().items():
            try:
                rollup = (Path("/proc") / str(pid) / "smaps_rollup").read_text()
            except OSError:
                continue
            private = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))
            found[f"{title[:60]} {pid}"] = private * 1024
        return found


@contextmanager
def service(
    index: Path,
    *arguments: str,
    logs: Path | None = None,
    prefix: Sequence[str] = (),
    patience: float = 600.0,
) -> Iterator[Service]:
    """Started, every replica there, and stopped again; `prefix` are words before its command.

    Raises SystemExit when it ends by itself, or is not there after `patience` seconds.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    command = [sys.executable, "-m", "crater_ray.cli", "serve", str(index), "--no-auth", "--port", str(port)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the service is stopped as well
    start = time.monotonic()
    process = subprocess.Popen(
        [*prefix, *command, *arguments, *(["--logs", str(logs)] if logs else [])],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    ready = 0.0
    late = threading.Timer(patience, os.killpg, [process.pid, signal.SIGKILL])
    late.start()
    try:
        for line in process.stdout:
            if "ready after" in line:
                ready = time.monotonic() - start
            if "every replica" in line:
                break
        else:
            raise SystemExit(f"the service did not start: {' '.join(command)}")
        late.cancel()
        yield Service(f"http://127.0.0.1:{port}", process.pid, ready)
    finally:
        late.cancel()
        process.send_signal(signal.SIGTERM)  # a shell's background ignores SIGINT
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # Ray's daemons with it, which its workers do not outlive


@dataclass
class Tally:
    """What came of requests, each under the second it ENDED in."""

    ended: list[float] = field(default_factory=list)  # since the start
    seconds: list[float] = field(default_factory=list)
    failed: list[tuple[float, str]] = field(default_factory=list)
    wrong: list[tuple[float, str]] = field(default_factory=list)
    partial: int = 0
    versions: dict[int, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return len(self.ended) + len(self.failed)

    def percentile(self, share: float) -> float:
        """Milliseconds."""
        return round(1e3 * float(np.percentile(self.seconds, share)), 2) if self.seconds else float("nan")

    def rate(self, since: float, until: float) -> float:
        """Good replies a second that ended between."""
        return sum(since <= at < until for at in self.ended) / (until - since)

    def longest_gap(self) -> float:
        """Seconds without any good reply."""
        return float(np.diff(sorted([0.0, *self.ended])).max()) if self.ended else float("inf")

    def as_dict(self) -> dict[str, Any]:
        return {
            "requests": self.total,
            "failed": len(self.failed),
            "reasons": sorted({reason for _, reason in self.failed})[:5],
            "wrong": len(self.wrong),
            "wrong_examples": [reason for _, reason in self.wrong[:3]],
            "partial": self.partial,
            "versions": self.versions,
            "longest_gap_s": round(self.longest_gap(), 2),
            "p50_ms": self.percentile(50),
            "p99_ms": self.percentile(99),
        }


async def load(
    url: str,
    bodies: list[Body],
    seconds: float,
    *,
    at_once: int = 1,
    rate: float | None = None,
    check: Check | None = None,
    meanwhile: Callable[[float], Any] | None = None,
) -> Tally:
    """Asks for `seconds`: `at_once` callers as fast as they are answered, or all of them `rate` a second.

    `meanwhile(start)` is awaited beside it.
    """
    tally, start, numbers = Tally(), time.monotonic(), iter(range(10**9))
    timeout = aiohttp.ClientTimeout(total=60)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:

        async def one() -> None:
            body, began = bodies[next(numbers) % len(bodies)], time.monotonic()
            try:
                told = await ask(session, url, body)
            except (aiohttp.ClientError, TimeoutError, Failed) as error:
                tally.failed.append((time.monotonic() - start, f"{type(error).__name__}: {error}"[:120]))
                return
            ended = time.monotonic()
            tally.ended.append(ended - start)
            tally.seconds.append(ended - began)
            tally.partial += told["shards"]["answered"] < told["shards"]["total"]
            version = told["index"]["version"]
            tally.versions[version] = tally.versions.get(version, 0) + 1
            problem = check(body, told) if check else ""
            if problem:
                tally.wrong.append((ended - start, problem))

        async def caller() -> None:
            while time.monotonic() - start < seconds:
                await one()

        async def paced(every: float) -> None:
            under_way: set[asyncio.Task[None]] = set()
            for number in range(int(seconds / every)):
                await asyncio.sleep(max(0.0, start + number * every - time.monotonic()))
                task = asyncio.create_task(one())
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            await asyncio.gather(*under_way)

        callers = [paced(1 / rate)] if rate else [caller() for _ in range(at_once)]
        await asyncio.gather(*callers, *([meanwhile(start)] if meanwhile else []))
    return tally


class Failed(Exception):
    """A reply that is no answer."""


async def ask(session: aiohttp.ClientSession, url: str, body: Body) -> dict[str, Any]:
    """One search. Raises Failed, aiohttp.ClientError."""
    if isinstance(body, bytes):
        form = aiohttp.FormData()
        form.add_field("image", body, filename="q.png", content_type="image/png")
        form.add_field("request", json.dumps({"candidates": IMAGE_CANDIDATES}))
        request = session.post(f"{url}/v1/search", data=form)
    else:
        request = session.post(f"{url}/v1/search", json=body)
    async with request as reply:
        if reply.status != 200:
            raise Failed(f"{reply.status} {(await reply.text())[:80]}")
        told: dict[str, Any] = await reply.json()
        return told


def same_hits(expected: dict[tuple[int, str], list[tuple[str, float]]]) -> Check:
    """A reply must be what its version gives in process: the same ids in the same order, scores to 1e-4."""

    def check(body: Body, told: dict[str, Any]) -> str:
        name = body["id"] if isinstance(body, dict) else IMAGE
        wanted = expected[told["index"]["version"], name]
        got = [(hit["id"], hit["score"]) for hit in told["hits"]]
        if told["shards"]["answered"] < told["shards"]["total"]:
            return ""  # it says so itself
        if [id for id, _ in got] != [id for id, _ in wanted]:
            return f"{name}: {[id for id, _ in got][:3]}, not {[id for id, _ in wanted][:3]}"
        if any(abs(a - b) > 1e-4 for (_, a), (_, b) in zip(got, wanted, strict=True)):
            return f"{name}: other scores"
        return ""

    return check


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def png(image: Any) -> bytes:
    """An (H, W, 3) uint8 array as a file."""
    import io

    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG")
    return data.getvalue()
