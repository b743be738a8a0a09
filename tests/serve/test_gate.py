"""What every request passes: a bounded body, a place, a deadline, a name, a token; and who is let through."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crater_ray.errors import ConfigError
from crater_ray.serve.bearer_tokens import BearerTokens, read_tokens
from crater_ray.serve.gate import SECURITY

Rigs = Callable[..., Any]
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_several_tokens_open_and_are_compared_whole() -> None:
    tokens = BearerTokens(["the first of two tokens", "the second of two tokens"])
    assert tokens.allow("Bearer the second of two tokens")
    assert tokens.allow("bearer the first of two tokens")
    assert not tokens.allow("Bearer the first of two token")
    assert BearerTokens(None).allow("")


def test_of_two_authorization_headers_the_first_counts_and_a_long_one_is_only_wrong(rig: Rigs) -> None:
    client, right = rig().client, f"Bearer {'a token of more than sixteen'}"
    del client.headers["authorization"]
    for given, status in (
        ([right, "Bearer x"], 200),
        (["Bearer x", right], 401),
        (["Bearer " + "x" * 50_000], 401),
    ):
        assert (
            client.get("/v1/index", headers=[("authorization", one) for one in given]).status_code == status
        )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no token"),
        (b" \r\n\n# only a comment of some length\n", "holds no token"),
        (b"short\n", "line 1: a token of 5"),
        (b"the first of two tokens\nshort\n", "line 2: a token of 5"),
        ("ünïcödé and long enough\n".encode(), "line 1: a character"),
        (b"a token with a \x00 inside of it\n", "line 1: a character"),
        (b"a token with a \x0c inside of it\n", "line 1: a character"),
        (b"Bearer the first of two tokens\n", "Bearer out"),
        ("the first of two tokens\n".encode("utf-16"), "UTF-8"),
        (bytes(range(256)), "UTF-8"),
    ],
)
def test_a_token_file_that_will_not_do(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "tokens"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="one token a line") as caught:
        read_tokens(path)
    assert said in caught.value.message
    assert "first of" not in caught.value.message
    with pytest.raises(ConfigError, match="cannot read"):
        read_tokens(tmp_path / "none")
    with pytest.raises(ConfigError, match="cannot read"):
        read_tokens(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"the first of two tokens\nthe second of two tokens",
        b"\xef\xbb\xbfthe first of two tokens\r\n\r\n  the second of two tokens \r\n",
        b"# of the atlas\nthe first of two tokens\n# of the survey\nthe second of two tokens\n",
    ],
)
def test_a_token_file_as_editors_write_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokens"
    path.write_bytes(content)
    assert read_tokens(path) == ["the first of two tokens", "the second of two tokens"]


def test_slow_loris(rig: Rigs) -> None:
    """A body that stops arriving is let go of, and holds no place meanwhile."""
    made = rig(body_timeout_s=0.05, max_concurrency=1)

    async def attempt() -> tuple[list[Any], int]:
        sent: list[Any] = []
        pieces = [{"type": "http.request", "body": b"{", "more_body": True}]
        reading, other = asyncio.Event(), []

        async def receive() -> Any:
            if pieces:
                return pieces.pop()
            reading.set()
            await asyncio.Event().wait()

        async def keep(message: Any) -> None:
            sent.append(message)

        async def another() -> None:
            await reading.wait()
            await app(scope("GET", "/v1/index"), _nothing, lambda message: _note(other, message))

        app = made.client.app
        await asyncio.gather(app(scope("POST", "/v1/search"), receive, keep), another())
        return sent, other[0]["status"]

    sent, other = asyncio.run(attempt())
    assert (sent[0]["status"], other) == (408, 200)
    assert (b"connection", b"close") in sent[0]["headers"]


def test_a_client_that_is_gone_before_its_body_and_in_mid_reply(rig: Rigs) -> None:
    made = rig()

    async def attempt() -> None:
        sent: list[Any] = []

        async def gone() -> Any:
            return {"type": "http.disconnect"}

        await made.client.app(scope("POST", "/v1/search"), gone, lambda message: _note(sent, message))
        assert sent[0]["status"] == 400

        async def broken(message: Any) -> None:
            if message["type"] == "http.response.body":
                raise OSError("the client is gone")

        with pytest.raises(OSError, match="gone"):
            await made.client.app(scope("GET", "/v1/index"), _nothing, broken)

    asyncio.run(attempt())
    assert made.client.app.guard.working == made.client.app.guard.reading == 0
    assert made.client.get("/v1/index").status_code == 200


def test_more_at_once_than_may_be_and_a_request_too_long(rig: Rigs) -> None:
    made = rig(max_concurrency=1, timeout_s=0.2)
    started = asyncio.Event()

    async def hang(method: str, *arguments: Any) -> Any:
        started.set()
        await asyncio.Event().wait()

    made.service.replicas.searchers = [hang]

    async def attempt() -> list[int]:
        first: list[Any] = []
        second: list[Any] = []

        async def later() -> None:
            await started.wait()
            await app(scope("GET", "/v1/items/i0001"), _nothing, lambda message: _note(second, message))

        app = made.client.app
        await asyncio.gather(
            app(scope("GET", "/v1/items/i0001"), _nothing, lambda message: _note(first, message)), later()
        )
        assert (b"retry-after", b"1") in second[0]["headers"]
        return [first[0]["status"], second[0]["status"]]

    assert asyncio.run(attempt()) == [504, 429]


def test_a_fault_of_ours_says_nothing_of_itself(rig: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    made = rig()

    async def broken() -> None:
        raise KeyError("/secret/path")

    monkeypatch.setattr(made.service, "summary", broken)
    reply = made.client.get("/v1/index")
    assert (reply.status_code, reply.headers["content-type"]) == (500, "application/problem+json")
    assert "fault of the service" in reply.json()["detail"]
    assert "secret" not in reply.text


def test_without_a_token_only_this_machine_is_answered(rig: Rigs) -> None:
    client = rig(token=False, hosts=frozenset({"localhost", "127.0.0.1", "::1"})).client
    for host in ("localhost", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST:1"):
        assert client.get("/v1/index", headers={"host": host}).status_code == 200
    for host in ("evil.example", "127.0.0.1.evil.example", "", "[::2]"):
        assert client.get("/v1/index", headers={"host": host}).status_code == 421


def test_every_reply_is_named_traced_and_guarded(rig: Rigs) -> None:
    client = rig(token=False).client
    for path in ("/v1/index", "/docs", "/openapi.json", "/healthz", "/v1/nothing"):
        reply = client.get(path, headers={"x-request-id": "mine-1", "traceparent": TRACE})
        assert reply.headers["x-request-id"] == "mine-1"
        assert reply.headers["traceparent"] == TRACE
        assert all(reply.headers[name] == value for name, value in SECURITY.items())
    reply = client.get("/healthz", headers={"x-request-id": "a b\t<c>", "traceparent": "00-zz"})
    assert len(reply.headers["x-request-id"]) == 32
    assert "traceparent" not in reply.headers
    assert "http://" not in client.get("/docs").text.replace("http://www.w3", "")


def scope(method: str, path: str) -> dict[str, Any]:
    headers = [(b"authorization", b"Bearer a token of more than sixteen"), (b"host", b"here")]
    if method == "POST":
        headers.append((b"content-type", b"application/json"))
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": headers,
        "client": ("here", 1),
        "server": ("here", 80),
        "state": {},
    }


async def _nothing() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _note(kept: list[Any], message: Any) -> None:
    kept.append(message)
