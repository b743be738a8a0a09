"""The ASGI application: routes behind their guard, explorer, documents, the gate around all. No Ray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

import crater_ray
from crater_ray.index.config import read_config
from crater_ray.index.store import store_at
from crater_ray.serve.basemap import Map, read_maps
from crater_ray.serve.bearer_tokens import BearerTokens, read_tokens
from crater_ray.serve.calls import Target
from crater_ray.serve.document import openapi, page
from crater_ray.serve.gate import GUARDED, Bounds, Gate, Guard
from crater_ray.serve.metrics import Metrics
from crater_ray.serve.models import Ready
from crater_ray.serve.problems import install
from crater_ray.serve.replicas import Replicas
from crater_ray.serve.routes import Change, router
from crater_ray.serve.service import Pin, Service
from crater_ray.serve.settings import LOOPBACK, Settings

EXPLORER = Path(__file__).parent / "explorer"


def open_service(
    wanted: Settings, searchers: Sequence[Target], encoders: Target, metrics: Metrics | None = None
) -> Service:
    """What is served, by those replicas. Raises IndexMismatch."""
    version = wanted.first_version()
    replicas = Replicas(searchers, encoders, wanted.serve, metrics or Metrics())
    config = read_config(store_at(wanted.index))
    return Service(wanted.index, wanted.name, replicas, Pin(version, (version,)), config)


def open_application(wanted: Settings, service: Service, change: Change, *, named: bool = False) -> Gate:
    """The application as the settings say. Reads files. Raises ConfigError."""
    file = wanted.token_file
    return application(
        service,
        tokens=BearerTokens(None if file is None else read_tokens(file)),
        change=change,
        basemaps=read_maps(wanted.serve),
        hosts=LOOPBACK if wanted.no_auth else None,
        named=named,
    )


def application(
    service: Service,
    *,
    tokens: BearerTokens,
    change: Change,
    basemaps: Sequence[Map] = (),
    hosts: frozenset[str] | None = None,
    named: bool = False,
) -> Gate:
    """All that is answered over HTTP, behind the gate."""
    app = FastAPI(
        title="crater-ray",
        version=crater_ray.__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    install(app)
    table, metrics = service.replicas.table, service.replicas.metrics
    bounds = Bounds(
        table.max_bytes, table.timeout_s, table.body_timeout_s, table.max_concurrency, hosts, named
    )
    api = router(service, change, basemaps)
    guard = Guard(api, bounds, tokens, metrics)
    app.router.routes.append(Mount(GUARDED, guard, name="api"))
    document = openapi(app, api)

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> Response:
        return JSONResponse({"alive": True})

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        ready: Ready = await service.ready()
        return JSONResponse(ready.model_dump(), 200 if ready.ready else 503)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi_json(request: Request) -> Response:
        prefix = request.scope["crater_ray.prefix"]
        return JSONResponse(document | {"servers": [{"url": quote(prefix)}]} if prefix else document)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(page(document))

    @app.api_route("", methods=["GET", "HEAD"], include_in_schema=False)
    async def bare(request: Request) -> Response:
        """A prefix without its slash: the page's files are looked for beside it."""
        last = quote(request.scope["crater_ray.prefix"].rpartition("/")[2])
        return RedirectResponse(f"{last}/" + (f"?{request.url.query}" if request.url.query else ""))

    app.router.routes.append(Mount("/", _Explorer(directory=EXPLORER, html=True), name="explorer"))
    return Gate(app, bounds, guard, metrics)


class _Explorer(StaticFiles):
    """The page's files. They are asked for anew after an upgrade, and cost nothing when they are the same."""

    def file_response(self, *arguments: Any, **more: Any) -> Response:
        answer = super().file_response(*arguments, **more)
        answer.headers["cache-control"] = "no-cache"
        return answer
