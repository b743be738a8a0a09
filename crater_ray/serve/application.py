"""The ASGI application: routes behind their guard, explorer, documents, the gate around all. No Ray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

import crater_ray
from crater_ray.serve.basemap import Map
from crater_ray.serve.bearer_tokens import BearerTokens
from crater_ray.serve.document import page
from crater_ray.serve.gate import Gate
from crater_ray.serve.guard import GUARDED, Bounds, Guard
from crater_ray.serve.models import Ready
from crater_ray.serve.problems import install
from crater_ray.serve.routes import MODELS, Change, router
from crater_ray.serve.service import Service

EXPLORER = Path(__file__).parent / "explorer"


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
    document = _document(app, api)

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> Response:
        return JSONResponse({"alive": True})

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        ready: Ready = await service.ready()
        return JSONResponse(ready.model_dump(), 200 if ready.ready else 503)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> Response:
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


def _document(app: FastAPI, api: APIRouter) -> dict[str, Any]:
    """The OpenAPI document, with the models that routes read by themselves, and the token."""
    document = get_openapi(title=app.title, version=app.version, routes=api.routes)
    document["paths"] = {GUARDED + path: routes for path, routes in document["paths"].items()}
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for model in MODELS:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}]
    return document
