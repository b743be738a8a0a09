"""What a request passes before a route of /v1 sees it: a token, a bounded body, a place, a deadline.

An ASGI layer that hangs on the routes: the router hands it every path below /v1, however the path was written
and wherever the application is mounted, and no route is reached but through it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from crater_ray.serve.bearer_tokens import BearerTokens
from crater_ray.serve.deadline import within
from crater_ray.serve.metrics import Metrics, NoMetrics
from crater_ray.serve.problems import Refused

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

GUARDED = "/v1"  # where the routes behind the token are mounted
SLOW = 4  # times as many bodies may be arriving as requests be answered: slow senders hold up nobody
CLOSE = {"connection": "close"}  # what is left of a refused body is not read: it cannot be used again
NOT_ALLOWED = 1008  # of a WebSocket that is closed for a policy


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one request may take."""

    bytes: int
    timeout_s: float  # from its whole body to its reply
    body_timeout_s: float
    max_concurrency: int
    hosts: frozenset[str] | None = None  # names the Host header may have; None: any
    named: bool = False  # the server around puts X-Request-ID into replies, as Ray Serve does

    @property
    def longest(self) -> float:
        """Seconds from a request's head to its reply."""
        return self.body_timeout_s + self.timeout_s


class Gone(Exception):
    """The caller has closed the connection: nobody waits for a reply."""


class Guard:
    """`app` behind the token, the places and the limits."""

    def __init__(
        self, app: App, bounds: Bounds, tokens: BearerTokens, metrics: Metrics | None = None
    ) -> None:
        self.app, self.bounds, self.tokens = app, bounds, tokens
        self.metrics = metrics or NoMetrics()
        self.reading = self.working = 0  # bodies that arrive, places that are taken

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(reversed(scope["headers"]))
        allowed = self.tokens.allow(given.get(b"authorization", b""))
        if scope["type"] == "websocket":
            if not allowed:
                await send({"type": "websocket.close", "code": NOT_ALLOWED})
                return
            await self.app(scope, receive, send)
            return
        scope["crater_ray.guarded"] = True
        if not allowed:
            raise Refused(401, "send the service's token: Authorization: Bearer …")
        bounds = self.bounds
        if self.reading >= SLOW * bounds.max_concurrency:
            raise Refused(429, f"{self.reading} bodies are arriving already; try again")
        self.reading += 1
        try:
            content = await self._body(given, receive)
        finally:
            self.reading -= 1
        places = scope["crater_ray.places"] = Places(self)
        places.take(1)
        try:
            await timed(self.app, scope, _Replay(content, receive), send, bounds.timeout_s)
        except Gone:  # a reply would reach nobody
            return
        finally:
            places.free()

    async def _body(self, given: dict[bytes, bytes], receive: Receive) -> bytes:
        """The whole body, never more than may be. Raises Refused: 413 too long, 408 too slow, 400 gone."""
        most = self.bounds.bytes
        told = given.get(b"content-length", b"0")
        if not told.isdigit():
            raise Refused(400, "Content-Length is no number", CLOSE)
        if int(told) > most:
            raise Refused(413, f"a body of {int(told)} bytes; at most {most} are taken", CLOSE)
        chunks, size = [], 0
        try:
            async with asyncio.timeout(self.bounds.body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "the connection ended before the body did", CLOSE)
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    if size > most:
                        raise Refused(413, f"a body of more than {most} bytes", CLOSE)
                    chunks.append(chunk)
                    if not message.get("more_body"):
                        return b"".join(chunks)
        except TimeoutError:
            seconds = self.bounds.body_timeout_s
            raise Refused(408, f"the body did not arrive within {seconds:g} s", CLOSE) from None


class Places:
    """The places that one request takes: one, and for a batch one a query."""

    def __init__(self, guard: Guard) -> None:
        self._guard, self._taken = guard, 0

    def take(self, count: int) -> None:
        """So many more. Raises Refused: 429 when too few are free, 422 when there never are so many."""
        most, wanted = self._guard.bounds.max_concurrency, self._taken + count
        if wanted > most:
            raise Refused(
                422, f"{wanted} queries in a batch; this service answers {most} at once: send fewer"
            )
        free = most - self._guard.working
        if count > free:
            wants = f", and {count} more are wanted" if count > 1 else ""
            raise Refused(429, f"{most - free} of {most} places are taken{wants}; try again")
        self._add(count)

    def free(self) -> None:
        self._add(-self._taken)

    def _add(self, count: int) -> None:
        self._taken += count
        self._guard.working += count
        self._guard.metrics.in_flight(self._guard.working)


async def timed(app: App, scope: Scope, receive: Receive, send: Send, seconds: float) -> None:
    """Runs `app` for so long, and no longer than its caller waits. Raises Refused (504), Gone.

    What is done for it knows how much time is left (deadline.py), and is cancelled when nobody waits.
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
        raise Refused(504, f"no answer within {seconds:g} s") from None
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
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone.set()
            return
        await asyncio.Event().wait()
