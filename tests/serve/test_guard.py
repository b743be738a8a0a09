"""No route of /v1 is reached but through the token and the limits: however a path is written or mounted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route
from starlette.testclient import TestClient

from crater_ray.config import ServeTable
from crater_ray.serve.basemap import read_maps

Rigs = Callable[..., Any]
TOKEN = b"Bearer a token of more than sixteen"
OPEN = {"/healthz", "/readyz", "/openapi.json", "/docs", ""}  # asked for no token


def ask(app: Any, path: str, *, root: str = "", method: str = "GET", token: bytes | None = None) -> Any:
    """(status, headers, body) of a path as a server hands it on."""
    sent: list[Any] = []
    bodies = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        return bodies.pop() if bodies else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "root_path": root,
        "query_string": b"",
        "headers": [(b"host", b"here"), *([(b"authorization", token)] if token else [])],
        "client": ("here", 1),
        "server": ("here", 80),
    }
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(one.get("body", b"") for one in sent[1:])


def walked(routes: list[BaseRoute], prefix: str = "") -> Iterator[tuple[str, frozenset[str]]]:
    """Every path an application has, and its methods."""
    for route in routes:
        if isinstance(route, Mount):
            inside = getattr(route.app, "app", route.app)
            yield from walked(getattr(inside, "routes", []), prefix + route.path)
        else:
            yield prefix + str(getattr(route, "path", "")), frozenset(getattr(route, "methods", None) or ())


def test_every_route_there_is_asks_for_the_token_or_is_known_not_to(rig: Rigs) -> None:
    made = rig()
    paths = dict(walked(made.client.app.app.router.routes))
    assert len([path for path in paths if path.startswith("/v1/")]) == 9
    for path, methods in paths.items():
        if path in OPEN:
            continue
        assert path.startswith("/v1/"), f"{path} is behind no guard"
        for method in methods:
            for root in ("", "/crater"):
                filled = path.replace("{id:path}", "i0001")
                assert ask(made.client.app, root + filled, root=root, method=method)[0] == 401
    assert made.shards[0].calls == made.encoder.calls == []


METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "TRACE"]
WRITTEN = [
    "/v1/items/i0001", "/v1/index", "/v1/items", "/v1/items/i0001/image", "/v1/search", "/v1/search/",
    "//v1/items/i0001", "/v1//items/i0001", "/v1/../v1/items/i0001", "/./v1/items/i0001", "/v1/",
    "/%76%31/items/i0001", "/v1%2Fitems%2Fi0001", "/v1/items%2fi0001", "/V1/items/i0001", "/v1",
    "/v1;x/items/i0001", "/v1/items/i0001?x", "/v1\\items\\i0001", "/%2e%2e/v1/items/i0001",
    "/v1/items/i0001%00", "/v1/nothing", "/crater/v1/items/i0001", "/v1/v1/items/i0001", "///v1/index",
]  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "/crater", "/a/b", "/v1", "/crater/", "/"])
def test_no_way_to_write_a_path_leads_past_the_token(rig: Rigs, prefix: str) -> None:
    made = rig()
    for path in WRITTEN:
        # as a server with the prefix has it, and as one that took it away (below /v1 that is another path)
        for asked in {prefix + path, prefix + path if prefix == "/v1" else path}:
            for method in METHODS:
                status, _, body = ask(made.client.app, asked, root=prefix, method=method)
                assert status in (401, 404, 405), (method, asked, status)
                assert b"moon" not in body
    assert made.shards[0].calls == made.encoder.calls == []


@pytest.mark.parametrize("prefix", ["/crater", "/a/b", "/v1", "/with%20space"])
def test_under_a_prefix_it_answers_and_its_addresses_hold(rig: Rigs, prefix: str, tmp_path: Path) -> None:
    path = tmp_path / "moon.png"
    Image.new("L", (36, 18), 90).save(path)
    made = rig(basemaps=read_maps(ServeTable(basemap={"moon": path})))
    client = TestClient(made.client.app, root_path=unquote(prefix), headers={"authorization": TOKEN.decode()})

    def got(address: str) -> Any:
        reply = client.get(address)
        assert reply.status_code == 200, (address, reply.text)
        return reply

    item = got(f"{prefix}/v1/items/i0001").json()
    assert item["image"] == f"{prefix}/v1/items/i0001/image"
    assert got(item["image"]).headers["content-type"] == "image/png"
    (basemap,) = got(f"{prefix}/v1/index").json()["basemaps"]
    assert basemap["url"].startswith(f"{prefix}/v1/basemap")
    assert got(basemap["url"]).content == path.read_bytes()
    assert got(f"{prefix}/openapi.json").json()["servers"] == [{"url": prefix}]
    assert 'href="openapi.json"' in got(f"{prefix}/docs").text
    page = got(f"{prefix}/").text
    assert not any(f'{name}="/' in page for name in ("href", "src")), "an address that leaves the prefix"
    got(f"{prefix}/main.js"), got(f"{prefix}/healthz"), got(f"{prefix}/readyz")
    bare = client.get(f"{prefix}?id=i0001", follow_redirects=False)
    assert (bare.status_code, bare.headers["location"]) == (307, f"{prefix.rpartition('/')[2]}/?id=i0001")
    assert got(prefix).text == page


def test_without_a_prefix_addresses_are_as_they_were(rig: Rigs) -> None:
    client = rig().client
    assert client.get("/v1/items/i0001").json()["image"] == "/v1/items/i0001/image"
    assert "servers" not in client.get("/openapi.json").json()


def test_mounted_in_another_application_it_is_as_guarded(rig: Rigs) -> None:
    made = rig(max_bytes=1000)
    around = Starlette(routes=[Mount("/maps/moon", made.client.app), Route("/", lambda request: None)])
    client = TestClient(around)
    assert client.get("/maps/moon/v1/items/i0001").status_code == 401
    client.headers["authorization"] = TOKEN.decode()
    assert client.get("/maps/moon/v1/items/i0001").json()["image"] == "/maps/moon/v1/items/i0001/image"
    assert client.get("/maps/moon/").text.startswith("<!doctype html>")
    assert client.post("/maps/moon/v1/search", content=b"x" * 2000).status_code == 413


def test_the_limits_hold_under_a_prefix(rig: Rigs) -> None:
    made = rig(max_bytes=1000, max_concurrency=1, timeout_s=0.2)
    client = TestClient(made.client.app, root_path="/crater", headers={"authorization": TOKEN.decode()})
    assert client.post("/crater/v1/search", content=b"x" * 2000).status_code == 413

    async def hang(method: str, *arguments: Any) -> Any:
        await asyncio.Event().wait()

    made.service.replicas.searchers = [hang]
    assert client.get("/crater/v1/items/i0001").status_code == 504
    made.client.app.guard.working = 1
    assert client.get("/crater/v1/items/i0001").status_code == 429
    assert client.get("/crater/healthz").status_code == 200


def test_a_websocket_is_closed_without_a_token_and_without_a_route(rig: Rigs) -> None:
    from starlette.websockets import WebSocketDisconnect

    client = rig().client
    for headers in ({}, {"authorization": TOKEN.decode()}):
        client.headers.pop("authorization", None)
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/v1/index", headers=headers):
            pass
