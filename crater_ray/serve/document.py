"""The OpenAPI document, and /docs: the same as one plain page, without a script and without another host."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi

from crater_ray.serve.gate import GUARDED
from crater_ray.serve.routes import MODELS


def openapi(app: FastAPI, api: APIRouter) -> dict[str, Any]:
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


def page(document: dict[str, Any]) -> str:
    """HTML of every route, what it takes and what it answers."""
    info = document["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width, initial-scale=1">',
        f"<title>{escape(info['title'])} API</title>",
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        '<p>The same as <a href="openapi.json">openapi.json</a>. Below /v1 every request carries '
        "<code>Authorization: Bearer …</code>, unless the service runs without a token.</p>",
    ]
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2>")
            parts.append(f"<p>{escape(route.get('summary', ''))}</p>")
            parts.append(_rows("takes", _takes(route)))
            parts.append(_rows("answers", _answers(route)))
    parts.append("<h2>Models</h2>")
    for name, schema in sorted(document["components"]["schemas"].items()):
        shown = escape(json.dumps(schema, indent=1, ensure_ascii=False))
        parts.append(
            f"<details id={escape(name)}><summary><code>{escape(name)}</code> "
            f"{escape(schema.get('description', ''))}</summary><pre>{shown}</pre></details>"
        )
    return "\n".join(parts) + "</html>"


def _takes(route: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for one in route.get("parameters", []):
        needed = ", required" if one.get("required") else ""
        rows.append((one["name"], f"{one['in']}{needed}. {one.get('description', '')}"))
    rows += [
        (kind, _name(content.get("schema", {})))
        for kind, content in route.get("requestBody", {}).get("content", {}).items()
    ]
    return rows


def _answers(route: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for status, answer in route["responses"].items():
        models = [
            f"{kind} {_name(body.get('schema', {}))}" for kind, body in answer.get("content", {}).items()
        ]
        rows.append((status, f"{answer.get('description', '')}. {'; '.join(models)}"))
    return rows


def _name(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    return ", ".join(schema.get("properties", {})) or str(schema.get("type", ""))


def _rows(title: str, rows: list[tuple[str, str]]) -> str:
    if not rows:
        return ""
    cells = "".join(f"<dt><code>{escape(a)}</code></dt><dd>{escape(b)}</dd>" for a, b in rows)
    return f"<h3>{title}</h3><dl>{cells}</dl>"
