"""Object storage for tests: a real server, a process of its own, started when the first test asks for it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVER = Path(__file__).parent / "s3_server.py"


@pytest.fixture(scope="session")
def storage_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint that there will be, told to every process that starts from now on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
    told = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "CRATER_RAY_CACHE": str(tmp_path_factory.mktemp("copies")),
    }
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    yield endpoint
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="session")
def storage(storage_environment: str) -> Iterator[str]:
    """The endpoint of the server."""
    port = storage_environment.rpartition(":")[2]
    server = subprocess.Popen(
        [sys.executable, str(SERVER), port], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    assert server.stdin is not None
    assert server.stdout.readline() == "ready\n"
    yield storage_environment
    server.stdin.close()
    server.wait(30)
    server.stdout.close()


@pytest.fixture
def place(storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An address in a new bucket; copies go below this test's folder."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    with urllib.request.urlopen(urllib.request.Request(f"{storage}/{name}", method="PUT")):
        pass
    monkeypatch.setenv("CRATER_RAY_CACHE", str(tmp_path / "here"))
    return Path(f"s3://{name}/maps/moon")
