"""What a request passes before a route sees it: the gate around everything, and the guard of /v1.

Gate is the outermost ASGI layer: host name, request name, headers of every reply, errors as problems.
Guard hangs on the mount of /v1: the router hands it every path below, however it was written and wherever the
application is mounted. It asks for a token, a bounded body, a place, and sets a deadline.
"""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crater_ray.serve import problems
from crater_ray.serve.bearer_tokens import BearerTokens
from crater_ray.serve.calls import within
from crater_ray.serve.metrics import Metrics

logger = logging.getLogger("ray.serve")

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
GUARDED = "/v1"  # where the routes behind the token are mounted
SLOW = 4  # times as many bodies may be arriving as requests be answered: slow senders hold up nobody
CLOSE = {"connection": "close"}  # what is left of a refused body is not read: it cannot be used again
NOT_ALLOWED = 1008  # of a WebSocket that is closed for a policy
CLOSED = 499  # as servers note a caller that is gone before its reply
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")  # traceparent of W3C Trace Context


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one request may take."""

    bytes: int
    timeout_s: float  # from its whole body to its reply
    body_timeout_s: float
    max_concurrency: int
    hosts: frozenset[str] | None = None  # names the Host header may have; None: any
    named: bool = False  # the server around puts X-Request-ID into replies, as Ray Serve does


class Gate:
    """`app`, of which `guard` is the part behind the token."""

    def __init__(self, app: ASGIApp, bounds: Bounds, guard: Guard, metrics: Metrics) -> None:
        self.app, self.bounds, self.guard, self.metrics = app, bounds, guard, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, given = perf_counter(), Headers(scope=scope)
        request_id, trace = given.get("x-request-id", ""), given.get("traceparent", "")
        request_id = request_id if _SAFE_ID.fullmatch(request_id) else uuid.uuid4().hex
        headers = dict(SECURITY) if self.bounds.named else {**SECURITY, "x-request-id": request_id}
        if _TRACE.fullmatch(trace):
            headers["traceparent"] = trace
        reply = _Reply(send, headers)
        scope["crater_ray.request_id"] = request_id
        scope["crater_ray.seconds"] = seconds = dict[str, float]()
        scope["crater_ray.prefix"] = scope.get("root_path", "").rstrip("/")  # inside, routers add to it
        try:
            hosts = self.bounds.hosts
            if hosts is not None and _host(given) not in hosts:
                raise HTTPException(
                    421, "without a token only requests to this machine's own name are answered"
                )
            await timed(self.app, scope, receive, reply, self.bounds.body_timeout_s + self.bounds.timeout_s)
            reply.status = reply.status or CLOSED  # nothing was sent: nobody waited
        except asyncio.CancelledError:
            reply.status = reply.status or CLOSED
            raise
        except Exception as error:
            if reply.whole:  # Starlette replies to the client and then raises what it replied to
                return
            if reply.status:  # too late for another reply: the connection ends, and the client sees it
                logger.error("after the reply began: %s", type(error).__name__, exc_info=error)
                raise
            await problems.reply(error, request_id)(scope, receive, reply)
        finally:
            spent = perf_counter() - start
            route = _route(scope, reply.status)
            self.metrics.request(route, reply.status, spent)
            extra = {
                "request": request_id,
                "template": route,
                "status": reply.status,
                "seconds": round(spent, 6),
                **({"traceparent": headers["traceparent"]} if "traceparent" in headers else {}),
                **({"stages": seconds} if seconds else {}),
            }
            logger.info("%s %s %d", scope["method"], route, reply.status, extra=extra)


class _Reply:
    """`send`, with the headers that every reply has, and what was sent so far."""

    def __init__(self, send: Send, headers: dict[str, str]) -> None:
        self._send, self._headers = send, headers
        self.status, self.whole = 0, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in self._headers.items():
                headers.setdefault(name, value)
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.whole = True


def _route(scope: Scope, status: int) -> str:
    """The template of the route, for metrics and logs."""
    route = getattr(scope.get("route"), "path", None)
    if route is None:
        return "static" if status < 400 else "none"
    return GUARDED + route if scope.get("crater_ray.guarded") else str(route)


def _host(given: Headers) -> str:
    host = given.get("host", "").lower()
    if host.startswith("["):
        return host.partition("]")[0].strip("[")
    return host.partition(":")[0]


class Gone(Exception):
    """The caller has closed the connection: nobody waits for a reply."""


class Guard:
    """`app` behind the token, the places and the limits."""

    def __init__(self, app: ASGIApp, bounds: Bounds, tokens: BearerTokens, metrics: Metrics) -> None:
        self.app, self.bounds, self.tokens, self.metrics = app, bounds, tokens, metrics
        self.reading = self.working = 0  # bodies that arrive, places that are taken

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope)
        allowed = self.tokens.allow(given.get("authorization", ""))
        if scope["type"] == "websocket":
            if not allowed:
                await send({"type": "websocket.close", "code": NOT_ALLOWED})
                return
            await self.app(scope, receive, send)
            return
        scope["crater_ray.guarded"] = True
        if not allowed:
            raise HTTPException(401, "send the service's token: Authorization: Bearer …")
        if self.reading >= SLOW * self.bounds.max_concurrency:
            raise HTTPException(429, f"{self.reading} bodies are arriving already; try again")
        self.reading += 1
        try:
            content = await self._body(given, receive)
        finally:
            self.reading -= 1
        places = scope["crater_ray.places"] = Places(self)
        places.take(1)
        try:
            await timed(self.app, scope, _Replay(content, receive), send, self.bounds.timeout_s)
        except Gone:  # a reply would reach nobody
            return
        finally:
            places.free()

    async def _body(self, given: Headers, receive: Receive) -> bytes:
        """The whole body, never more than may be. Raises 413 too long, 408 too slow, 400 gone."""
        most, length = self.bounds.bytes, given.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise HTTPException(400, "Content-Length is no number", CLOSE)
        if int(length) > most:
            raise HTTPException(413, f"a body of {int(length)} bytes; at most {most} are taken", CLOSE)
        chunks, size = [], 0
        try:
            async with asyncio.timeout(self.bounds.body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise HTTPException(400, "the connection ended before the body did", CLOSE)
                    chunks.append(message.get("body", b""))
                    size += len(chunks[-1])
                    if size > most:
                        raise HTTPException(413, f"a body of more than {most} bytes", CLOSE)
                    if not message.get("more_body"):
                        return b"".join(chunks)
        except TimeoutError:
            seconds = self.bounds.body_timeout_s
            raise HTTPException(408, f"the body did not arrive within {seconds:g} s", CLOSE) from None


class Places:
    """The places that one request takes: one, and for a batch one a query."""

    def __init__(self, guard: Guard) -> None:
        self._guard, self._taken = guard, 0

    def take(self, count: int) -> None:
        """So many more. Raises 429 when too few are free, 422 when there never are so many."""
        most, wanted = self._guard.bounds.max_concurrency, self._taken + count
        if wanted > most:
            raise HTTPException(
                422, f"{wanted} queries in a batch; this service answers {most} at once: send fewer"
            )
        free = most - self._guard.working
        if count > free:
            wants = f", and {count} more are wanted" if count > 1 else ""
            raise HTTPException(429, f"{most - free} of {most} places are taken{wants}; try again")
        self._add(count)

    def free(self) -> None:
        self._add(-self._taken)

    def _add(self, count: int) -> None:
        self._taken += count
        self._guard.working += count
        self._guard.metrics.in_flight(self._guard.working)


async def timed(app: ASGIApp, scope: Scope, receive: Receive, send: Send, seconds: float) -> None:
    """Runs `app` for so long, and no longer than its caller waits. Raises 504, Gone.

    What is done for it knows how much time is left (calls.py), and is cancelled when nobody waits.
    """
    watch: asyncio.Task[None] | None = None
    try:
        with within(seconds):
            async with asyncio.timeout(seconds) as limit:
                if isinstance(receive, _Replay):
                    watch = asyncio.ensure_future(_watched(receive, limit))
                await app(scope, receive, send)
    except TimeoutError:
        if isinstance(receive, _Replay) and receive.gone.is_set():
            raise Gone from None
        if not limit.expired():  # another's: a fault
            raise
        raise HTTPException(504, f"no answer within {seconds:g} s") from None
    finally:
        if watch is not None:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch


async def _watched(receive: _Replay, limit: asyncio.Timeout) -> None:
    """Ends the time when the caller closes the connection."""
    await receive.until_gone()
    limit.reschedule(asyncio.get_running_loop().time())


class _Replay:
    """`receive`, of a body that has been read."""

    def __init__(self, content: bytes, receive: Receive) -> None:
        self._content: bytes | None = content
        self._receive = receive
        self.gone = asyncio.Event()

    async def __call__(self) -> Message:
        if self._content is not None:
            content, self._content = self._content, None
            return {"type": "http.request", "body": content, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def until_gone(self) -> None:
        """After the body nothing comes but the end of the connection; of a server that says else, nothing."""
        if (await self._receive())["type"] == "http.disconnect":
            self.gone.set()
        else:
            await asyncio.Event().wait()
