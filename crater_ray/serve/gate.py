"""What every request passes first: a host's name and a request's name; and what every reply has.

The outermost ASGI layer. Whatever the inside does, a reply has the security headers and the request's id, and
an error is a problem document. Tokens, bodies, places: guard.py, which hangs on the routes themselves.
"""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from dataclasses import dataclass, field
from time import perf_counter

from crater_ray.serve.guard import GUARDED, App, Bounds, Guard, Message, Receive, Scope, Send, timed
from crater_ray.serve.metrics import Metrics, NoMetrics
from crater_ray.serve.problems import MEDIA_TYPE, Refused, body, headers, more, of_error

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
_SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_TRACE = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")  # traceparent of W3C Trace Context
CLOSED = 499  # as servers note a caller that is gone before its reply


@dataclass
class _Reply:
    """What was sent so far."""

    status: int = 0
    whole: bool = False
    seconds: dict[str, float] = field(default_factory=dict)


class Gate:
    """`app`, of which `guard` is the part behind the token."""

    def __init__(self, app: App, bounds: Bounds, guard: Guard, metrics: Metrics | None = None) -> None:
        self.app, self.bounds, self.guard = app, bounds, guard
        self.metrics = metrics or NoMetrics()

    @property
    def reading(self) -> int:
        """Bodies that arrive now."""
        return self.guard.reading

    @property
    def working(self) -> int:
        """Places that are taken now."""
        return self.guard.working

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
        scope["crater_ray.prefix"] = scope.get("root_path", "").rstrip("/")  # inside, routers add to it
        sender = _Sender(send, reply, request_id, trace, self.bounds.named)
        try:
            hosts = self.bounds.hosts
            if hosts is not None and _host(given) not in hosts:
                raise Refused(421, "without a token only requests to this machine's own name are answered")
            await timed(self.app, scope, receive, sender, self.bounds.longest)
            reply.status = reply.status or CLOSED  # nothing was sent: nobody waited
        except asyncio.CancelledError:
            reply.status = reply.status or CLOSED
            raise
        except Exception as error:
            if reply.whole:  # Starlette tells the client and then raises what it told of
                return
            if reply.status:  # too late for another reply: the connection ends, and the client sees it
                logger.error("after the reply began: %s", type(error).__name__, exc_info=error)
                raise
            await sender.problem(error)
        finally:
            self._note(scope, reply, request_id, trace.decode(), perf_counter() - start)

    def _note(self, scope: Scope, reply: _Reply, request_id: str, trace: str, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None)
        if route is not None and scope.get("crater_ray.guarded"):
            route = GUARDED + route
        route = route or ("static" if reply.status < 400 else "none")
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
        pairs = {
            "content-type": MEDIA_TYPE,
            "content-length": str(len(content)),
            **headers(told.status),
            **more(error),
        }
        await self(
            {
                "type": "http.response.start",
                "status": told.status,
                "headers": [(name.encode(), value.encode()) for name, value in pairs.items()],
            }
        )
        await self({"type": "http.response.body", "body": content})


def _host(given: dict[bytes, bytes]) -> str:
    host = given.get(b"host", b"").decode("latin-1").lower()
    if host.startswith("["):
        return host.partition("]")[0].strip("[")
    return host.partition(":")[0]
