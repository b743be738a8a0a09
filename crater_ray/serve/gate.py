"""What every request passes before a route sees it: a name, a token, a place, a bounded body, a deadline.

One ASGI layer around the whole application. Whatever the inside does, a reply has the security headers and
the request's id, and an error is a problem document.
"""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from crater_ray.serve.metrics import Metrics, NoMetrics
from crater_ray.serve.problems import MEDIA_TYPE, Refused, body, headers, of_error
from crater_ray.serve.tokens import Tokens

logger = logging.getLogger("ray.serve")
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SECURITY = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
_SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_TRACE = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")  # traceparent of W3C Trace Context
GUARDED = "/v1/"  # paths that ask for a token
SLOW = 4  # times as many bodies may be arriving as requests be answered: slow senders hold up nobody


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one request may take."""

    bytes: int
    seconds: float  # from its whole body to its reply
    body_seconds: float
    at_once: int
    hosts: frozenset[str] | None = None  # names the Host header may have; None: any
    named: bool = False  # the server around puts X-Request-ID into replies, as Ray Serve does


@dataclass
class _Reply:
    """What was sent so far."""

    status: int = 0
    whole: bool = False
    seconds: dict[str, float] = field(default_factory=dict)


class Gate:
    def __init__(self, app: App, bounds: Bounds, tokens: Tokens, metrics: Metrics | None = None) -> None:
        self.app, self.bounds, self.tokens = app, bounds, tokens
        self.metrics = metrics or NoMetrics()
        self.reading = self.working = 0  # bodies that arrive, requests that are answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, reply = perf_counter(), _Reply()
        given = dict(reversed(scope["headers"]))
        name = given.get(b"x-request-id", b"")
        request_id = name.decode() if _SAFE_ID.fullmatch(name) else uuid.uuid4().hex
        trace = given.get(b"traceparent", b"")
        trace = trace if _TRACE.fullmatch(trace) else b""
        scope["crater_ray.request_id"] = request_id
        scope["crater_ray.seconds"] = reply.seconds
        sender = _Sender(send, reply, request_id, trace, self.bounds.named)
        try:
            await self._guarded(scope, given, receive, sender)
        except Exception as error:
            if reply.whole:  # Starlette tells the client and then raises what it told of
                return
            if reply.status:  # too late for another reply: the connection ends, and the client sees it
                logger.error("after the reply began: %s", type(error).__name__, exc_info=error)
                raise
            await sender.problem(error)
        finally:
            self._note(scope, reply, request_id, trace.decode(), perf_counter() - start)

    async def _guarded(
        self, scope: Scope, given: dict[bytes, bytes], receive: Receive, send: _Sender
    ) -> None:
        bounds = self.bounds
        if bounds.hosts is not None and _host(given) not in bounds.hosts:
            raise Refused(421, "without a token only requests to this machine's own name are answered")
        if scope["path"].startswith(GUARDED) and not self.tokens.allow(given.get(b"authorization", b"")):
            raise Refused(401, "send the service's token: Authorization: Bearer …")
        if not scope["path"].startswith(GUARDED):  # files, and whether it lives: no body, and no queue
            await self._timed(scope, receive, send)
            return
        if self.reading >= SLOW * bounds.at_once:
            raise Refused(429, f"{self.reading} bodies are arriving already; try again")
        self.reading += 1
        try:
            content = await self._body(given, receive)
        finally:
            self.reading -= 1
        if self.working >= bounds.at_once:
            raise Refused(429, f"{bounds.at_once} requests are being answered already; try again")
        self.working += 1
        self.metrics.in_flight(self.working)
        try:
            await self._timed(scope, _Replay(content, receive), send)
        finally:
            self.working -= 1
            self.metrics.in_flight(self.working)

    async def _timed(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.wait_for(self.app(scope, receive, send), self.bounds.seconds)
        except TimeoutError:
            raise Refused(504, f"no answer within {self.bounds.seconds:g} s") from None

    async def _body(self, given: dict[bytes, bytes], receive: Receive) -> bytes:
        """The whole body, never more than may be. Raises Refused: 413 too long, 408 too slow, 400 gone."""
        most = self.bounds.bytes
        told = given.get(b"content-length", b"0")
        if not told.isdigit():
            raise Refused(400, "Content-Length is no number")
        if int(told) > most:
            raise Refused(413, f"a body of {int(told)} bytes; at most {most} are taken")
        chunks, size = [], 0
        try:
            async with asyncio.timeout(self.bounds.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "the connection ended before the body did")
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    if size > most:
                        raise Refused(413, f"a body of more than {most} bytes")
                    chunks.append(chunk)
                    if not message.get("more_body"):
                        return b"".join(chunks)
        except TimeoutError:
            raise Refused(408, f"the body did not arrive within {self.bounds.body_seconds:g} s") from None

    def _note(self, scope: Scope, reply: _Reply, request_id: str, trace: str, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None) or ("static" if reply.status < 400 else "none")
        self.metrics.request(route, reply.status, seconds)
        logger.info(
            "%s %s %d",
            scope["method"],
            route,
            reply.status,
            extra={
                "request": request_id,
                "template": route,
                "status": reply.status,
                "seconds": round(seconds, 6),
                **({"traceparent": trace} if trace else {}),
                **({"stages": reply.seconds} if reply.seconds else {}),
            },
        )


class _Sender:
    """`send`, with the headers that every reply has."""

    def __init__(self, send: Send, reply: _Reply, request_id: str, trace: bytes, named: bool) -> None:
        self._send, self._reply, self._request_id = send, reply, request_id
        self._extra = [(name.encode(), value.encode()) for name, value in SECURITY.items()]
        if not named:
            self._extra.append((b"x-request-id", request_id.encode()))
        if trace:
            self._extra.append((b"traceparent", trace))

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._reply.status = message["status"]
            there = {name for name, _ in message["headers"]}
            extra = [pair for pair in self._extra if pair[0] not in there]
            message = {**message, "headers": [*message["headers"], *extra]}
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self._reply.whole = True

    async def problem(self, error: Exception) -> None:
        told = of_error(error, self._request_id)
        content = body(told)
        # what is left of a refused body is not read: the connection cannot be used again
        close = {"connection": "close"} if told.status in (400, 408, 413) else {}
        pairs = {
            "content-type": MEDIA_TYPE,
            "content-length": str(len(content)),
            **headers(told.status),
            **close,
        }
        await self(
            {
                "type": "http.response.start",
                "status": told.status,
                "headers": [(name.encode(), value.encode()) for name, value in pairs.items()],
            }
        )
        await self({"type": "http.response.body", "body": content})


class _Replay:
    """`receive`, of a body that has been read."""

    def __init__(self, content: bytes, receive: Receive) -> None:
        self._content: bytes | None = content
        self._receive = receive

    async def __call__(self) -> Message:
        if self._content is not None:
            content, self._content = self._content, None
            return {"type": "http.request", "body": content, "more_body": False}
        return await self._receive()


def _host(given: dict[bytes, bytes]) -> str:
    host = given.get(b"host", b"").decode("latin-1").lower()
    if host.startswith("["):
        return host.partition("]")[0].strip("[")
    return host.partition(":")[0]
