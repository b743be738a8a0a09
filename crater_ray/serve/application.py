"""The ASGI application: routes, explorer, documents, and the gate around them. No Ray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.routing import Match, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

import crater_ray
from crater_ray.serve.basemap import Map
from crater_ray.serve.document import page
from crater_ray.serve.gate import Bounds, Gate
from crater_ray.serve.models import Ready
from crater_ray.serve.problems import install
from crater_ray.serve.routes import MODELS, Change, router
from crater_ray.serve.service import Service
from crater_ray.serve.tokens import Tokens

EXPLORER = Path(__file__).parent / "explorer"


def application(
    service: Service,
    *,
    tokens: Tokens,
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
    app.include_router(router(service, change, basemaps))
    document = _document(app)

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> Response:
        return JSONResponse({"alive": True})

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        ready: Ready = await service.ready()
        return JSONResponse(ready.model_dump(), 200 if ready.ready else 503)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return JSONResponse(document)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(page(document))

    app.router.routes.append(_Beside("/", _Explorer(directory=EXPLORER, html=True), name="explorer"))
    table = service.table
    bounds = Bounds(table.max_bytes, table.seconds, table.body_seconds, table.at_once, hosts, named)
    return Gate(app, bounds, tokens, service.metrics)


class _Explorer(StaticFiles):
    """The page's files. They are asked for anew after an upgrade, and cost nothing when they are the same."""

    def file_response(self, *arguments: Any, **more: Any) -> Response:
        answer = super().file_response(*arguments, **more)
        answer.headers["cache-control"] = "no-cache"
        return answer


class _Beside(Mount):
    """A mount that leaves /v1 to the routes: else it would answer 404 where a wrong method is 405."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http" and scope["path"].startswith("/v1/"):
            return Match.NONE, {}
        return super().matches(scope)


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the models that routes read by themselves, and the token."""
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
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
