"""No file is opened in the event loop, whatever is asked; a storage that hangs holds nobody up."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from crater_ray.serve.application import EXPLORER
from crater_ray.serve.settings import settings

Rigs = Callable[..., Any]
FILES = {"open", "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rename", "socket.connect"}
_seen: list[tuple[str, str]] | None = (
    None  # an audit hook cannot be taken away: it notes while this is a list
)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is not None and event in FILES and asyncio._get_running_loop() is not None:
        _seen.append((event, str(arguments[0])))


@pytest.fixture
def seen() -> Any:
    """What was opened in an event loop."""
    global _seen
    sys.addaudithook(_audit)
    _seen = found = []
    yield found
    _seen = None


def test_no_route_touches_files_in_the_event_loop(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: list[Any]
) -> None:
    from PIL import Image

    from crater_ray.serve.local import local

    path = tmp_path / "moon.png"
    Image.new("L", (36, 18), 90).save(path)
    table = {"shards": 2, "threads": 1, "basemap": str(path)}
    app = local(settings({"index": str(root), "no_auth": True, "serve": table}))
    client = TestClient(app, base_url="http://127.0.0.1")
    for address in (
        "index", "items", "items?columns=lat", "items/i0001", "items/i0001/image?size=32", "basemap",
        "items/i0001/tokens", "items/nobody", "nothing",
    ):  # fmt: skip
        client.get(f"/v1/{address}")
    for address in ("/", "/main.js", "/nothing", "/docs", "/openapi.json", "/healthz", "/readyz"):
        client.get(address)
    client.post("/v1/search", json={"id": "i0001", "expand": 2, "explain": True})
    client.post("/v1/search/batch", json={"ids": ["i0001", "i0002"]})
    image = path.read_bytes()
    client.post("/v1/search", files={"image": ("x.png", image, "image/png")})
    ours = (str(root), str(tmp_path), str(EXPLORER))  # not what an import or a traceback reads once
    assert [one for one in seen if one[1].startswith(ours)] == []


def test_a_storage_that_hangs_holds_up_only_who_asks_it(rig: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    from crater_ray.serve import service

    made = rig(timeout_s=0.3)
    go = threading.Event()
    monkeypatch.setattr(service, "numbers", lambda root: [1] if go.wait(30) else [])

    async def main() -> list[int]:
        async def status(path: str) -> int:
            sent: list[Any] = []
            bodies = [{"type": "http.request", "body": b"", "more_body": False}]

            async def receive() -> Any:
                return bodies.pop() if bodies else await asyncio.Event().wait()

            async def send(message: Any) -> None:
                sent.append(message)

            headers = [(b"authorization", made.client.headers["authorization"].encode())]
            scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers}
            await made.client.app(scope, receive, send)
            return int(sent[0]["status"])

        listing = asyncio.ensure_future(status("/v1/index"))
        await asyncio.sleep(0)
        others = [await status("/healthz"), await status("/v1/items/i0001")]
        assert not listing.done()
        return [*others, await listing]

    assert asyncio.run(main()) == [200, 200, 504]
    go.set()
