"""A real service, as a user starts it: real HTTP, replicas killed and versions changed under load."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from crater_ray.retrieve import Index

pytestmark = pytest.mark.ray
TOKEN = "a token of more than sixteen"
TOP = 7
PREFIX = "/maps/moon"
JOB = """
out = "{root}"
[reader]
name = "painted"
[backbone]
name = "painted_fake"
[serve]
shards = 2
threads = 1
timeout_s = 4.0
body_timeout_s = 1.0
max_bytes = 200000
"""


@dataclass
class Served:
    url: str
    process: subprocess.Popen[str]
    metrics: str
    logs: Path

    def ask(self, body: Any, **more: Any) -> requests.Response:
        headers = {"authorization": f"Bearer {TOKEN}"}
        return requests.post(f"{self.url}/v1/search", json=body, headers=headers, timeout=30, **more)

    def get(self, path: str) -> Any:
        headers = {"authorization": f"Bearer {TOKEN}"}
        return requests.get(f"{self.url}{path}", headers=headers, timeout=30).json()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.fixture(scope="module")
def served(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`crater-ray serve JOB.toml` below a prefix in two shards, its own cluster, the old version current."""
    place = tmp_path_factory.mktemp("served")
    job, tokens, logs = place / "job.toml", place / "tokens", place / "logs"
    job.write_text(JOB.format(root=root))
    tokens.write_text(f"another token of more\n{TOKEN}\n")
    port, metrics = free_port(), free_port()
    command = [sys.executable, "-m", "crater_ray.cli", "serve", str(job), "--token-file", str(tokens)]
    command += ["--port", str(port), "--metrics-port", str(metrics), "--logs", str(logs), "--version", "1"]
    command += ["--prefix", PREFIX]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    said = next((line for line in process.stdout if "every replica is there" in line), "")
    if not said:
        pytest.fail(f"the service did not start: {process.communicate()[1][-3000:]}")
    yield Served(f"http://127.0.0.1:{port}{PREFIX}", process, f"http://127.0.0.1:{metrics}/metrics", logs)
    process.send_signal(signal.SIGTERM)
    try:
        assert process.wait(60) == 0
        assert process.communicate() == ("", "")  # nothing of Ray's, not even of replicas that were killed
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def hits(root: Path) -> dict[tuple[int, str], list[tuple[str, float]]]:
    """What each version answers in process."""
    found = {}
    for version in (1, 2):
        index = Index(root, version, threads=1)
        for id in Index(root, 1).ids[:20]:
            found[version, id] = [(hit.id, hit.score) for hit in index.search(id=id, top=TOP, mode="exact")]
    return found


def under_load(served: Served, hits: Any, trouble: Callable[[], None]) -> Counter[str]:
    """What came of the requests that ended before and after the trouble, each checked against its version."""
    done, counts, ids = threading.Event(), Counter[str](), [id for version, id in hits if version == 1]

    def caller(number: int) -> None:
        turn = number
        while not done.is_set():
            turn += 1
            id = ids[turn % len(ids)]
            try:
                reply = served.ask({"id": id, "top": TOP, "mode": "exact"})
            except requests.RequestException as error:
                counts[f"failed: {type(error).__name__}"] += 1
                continue
            if reply.status_code != 200:
                counts[f"failed: {reply.status_code}"] += 1
                continue
            told = reply.json()
            if told["shards"]["answered"] < told["shards"]["total"]:
                counts["partial"] += 1
                continue
            version = told["index"]["version"]
            got = [(hit["id"], hit["score"]) for hit in told["hits"]]
            counts["right" if got == hits[version, id] else "wrong"] += 1
            counts[f"version {version}"] += 1

    with ThreadPoolExecutor(2) as pool:
        callers = [pool.submit(caller, number) for number in range(2)]
        try:
            trouble()
        finally:
            done.set()
        for one in callers:
            one.result()
    return counts


def replicas(served: Served, title: str) -> set[int]:
    """The pids of that title below the service's own process."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
    below, found = {str(served.process.pid)}, set()
    for _ in range(4):
        below |= {pid for pid, parent, *_ in rows if parent in below}
    for pid, _, *title_of in rows:
        if pid in below and title_of and title in title_of[0]:
            found.add(int(pid))
    return found


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to be in time"


def test_the_served_answer_is_the_in_process_one(served: Served, hits: Any, root: Path) -> None:
    for (version, id), wanted in hits.items():
        if version == 1:
            told = served.ask({"id": id, "top": TOP, "mode": "exact", "strict": True}).json()
            assert [(hit["id"], hit["score"]) for hit in told["hits"]] == wanted
    index = Index(root, 1, threads=1)
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(index.image("i0009")).save(data, "PNG")
    reply = requests.post(
        f"{served.url}/v1/search",
        headers={"authorization": f"Bearer {TOKEN}", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"},
        files={"image": ("x.png", data.getvalue(), "image/png")},
        data={"request": json.dumps({"top": 3})},
        timeout=30,
    )
    expected = index.search(data.getvalue(), top=3)
    assert [hit["id"] for hit in reply.json()["hits"]] == [hit.id for hit in expected]
    assert reply.headers["traceparent"] == f"00-{'a' * 32}-{'b' * 16}-01"
    assert served.ask({"id": "nobody"}).status_code == 404
    assert requests.post(f"{served.url}/v1/search", json={"id": "i0001"}, timeout=30).status_code == 401
    assert served.get("/readyz") == {
        "ready": True,
        "version": 1,
        "shards": {"answered": 2, "total": 2},
    }


def test_no_path_leads_past_the_token(served: Served) -> None:
    address = urlsplit(served.url)
    for path in (
        f"{PREFIX}/v1/index",
        f"{PREFIX}//v1/index",
        f"{PREFIX}/x/../v1/index",
        f"{PREFIX}/%76%31/index",
        f"{PREFIX}x/v1/index",
        "/v1/index",
        f"//{PREFIX}/v1/index",
    ):
        with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            status = connection.recv(12)[-3:]
        assert status in (b"401", b"404", b"400"), (path, status)
    assert requests.get(served.url, timeout=30).text.startswith("<!doctype html>")  # led to the slash
    assert served.get("/openapi.json")["servers"] == [{"url": PREFIX}]


def test_a_killed_searcher_and_a_killed_encoder_are_not_noticed(served: Served, hits: Any) -> None:
    for title in ("ServeReplica:crater-ray:searcher-0", "ServeReplica:crater-ray:encoder"):

        def trouble(title: str = title) -> None:
            before = replicas(served, title)
            assert len(before) == 2
            victim = min(before)
            os.kill(victim, signal.SIGKILL)
            until(lambda: len(replicas(served, title) - {victim}) == 2)

        counts = under_load(served, hits, trouble)
        assert counts["wrong"] == 0, counts
        assert counts["right"] > 10, counts
        assert sum(n for what, n in counts.items() if what.startswith("failed")) <= 0.01 * counts["right"], (
            counts
        )
    until(lambda: served.get("/readyz")["ready"])


def test_versions_change_and_roll_back_without_a_failed_or_mixed_reply(served: Served, hits: Any) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}

    def put(version: int | None) -> requests.Response:
        return requests.put(
            f"{served.url}/v1/index/version", json={"version": version}, headers=headers, timeout=30
        )

    def trouble() -> None:
        for version in (None, 1):
            until(lambda version=version: put(version).status_code == 202)  # 409: the last is not over
            number = version or 2
            until(lambda number=number: served.get("/v1/index")["version"] == number)
            assert put(number).status_code in (202, 409)  # said twice, it is still one change
            until(lambda number=number: served.get("/v1/index")["held"] == [number])

    counts = under_load(served, hits, trouble)
    assert counts["wrong"] == counts["partial"] == 0, counts
    assert not any(what.startswith("failed") for what in counts), counts
    assert counts["version 1"] > 5
    assert counts["version 2"] > 5
    assert put(77).status_code == 404


def test_a_slow_body_and_a_long_one_over_a_real_socket(served: Served) -> None:
    address = urlsplit(served.url)
    head = f"POST {address.path}/v1/search HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += "Content-Type: application/json\r\n"
    for length, status in ((100, b"408"), (100_000_000, b"413")):
        with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
            connection.sendall(f"{head}Content-Length: {length}\r\n\r\n{{".encode())
            assert connection.recv(12).endswith(status)
    assert served.ask({"id": "i0001"}).status_code == 200


def test_it_is_seen_from_outside(served: Served) -> None:
    def metrics() -> str:
        return requests.get(served.metrics, timeout=30).text

    until(lambda: "crater_ray_index_version" in metrics() and "crater_ray_stage_seconds" in metrics())
    text = metrics()
    for name in ("requests", "request_seconds", "requests_in_flight", "shards_answered", "skipped_items"):
        assert f"crater_ray_{name}" in text
    lines = [
        json.loads(line) for file in served.logs.glob("*ingress*") for line in file.read_text().splitlines()
    ]
    answered = [line for line in lines if line.get("template") == "/v1/search" and line["status"] == 200]
    assert all(line["request_id"] and line["stages"]["total"] > 0 for line in answered)
    assert any(line.get("traceparent") for line in answered)


def test_a_corrupt_file_stops_the_start_with_one_line(painted_copy: Path) -> None:
    file = next(iter(painted_copy.glob("parts/*/codes.bin")))
    content = bytearray(file.read_bytes())
    content[7] ^= 1
    file.write_bytes(content)
    command = [sys.executable, "-m", "crater_ray.cli", "serve", str(painted_copy), "--no-auth"]
    done = subprocess.run(
        [*command, "--port", str(free_port()), "--replicas", "1", "--encoders", "1"],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 2, done.stderr
    error, log = done.stderr.splitlines()
    assert error.startswith("Error")
    assert "codes.bin does not match its checksum" in error
    path = Path(log.removeprefix("What Ray itself said meanwhile: "))
    assert "Serve" in path.read_text()
    path.unlink()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--token-file"),
        (["--no-auth", "--host", "0.0.0.0"], "--no-auth"),
        (["--token-file", "/nowhere"], "cannot read"),
        (["--no-auth", "--version", "9"], "no version 9"),
        (["--no-auth", "--basemap", __file__], "basemap"),
        (["--no-auth", "--set", "serve.shards=2"], "job file"),
    ],
)
def test_a_mistake_is_said_before_anything_is_started(root: Path, arguments: list[str], said: str) -> None:
    from click.testing import CliRunner

    from crater_ray.cli import app
    from crater_ray.errors import UserError

    done = CliRunner().invoke(app, ["serve", str(root), *arguments])
    assert isinstance(done.exception, UserError)
    assert said in str(done.exception)
