"""docs/reference/http.md: every route of the service and every model, out of its OpenAPI document."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

from starlette.testclient import TestClient

from crater_ray.config import ServeTable
from crater_ray.serve.application import application
from crater_ray.serve.bearer_tokens import BearerTokens
from crater_ray.serve.metrics import Metrics
from crater_ray.serve.routes import REASONS

HEAD = """\
The service answers at `http://127.0.0.1:8000` unless `crater-ray serve` is told otherwise. The OpenAPI
document is at `/openapi.json`, and readable at `/docs`. Everything below `/v1` needs
`Authorization: Bearer <token>`, unless the service runs with `--no-auth`. `/healthz` answers 200 while
the process lives, `/readyz` 200 or 503.

Every reply has `X-Request-ID`: the caller's, if it sent one. An error is a problem of RFC 9457;
429 and 503 say in `Retry-After` when to try again:

| status | why |
|---|---|
{reasons}

An image is sent as a form: a file `image` (or `images`), and the field `request`, which is the JSON of
`SearchBody` without `id`, as text. [Examples](../how-to/serve.md).
"""


def markdown() -> str:
    """Routes, then models."""
    document = _document()
    reasons = "\n".join(f"| {status} | {reason} |" for status, reason in REASONS.items())
    parts = [
        HEAD.format(reasons=reasons),
        "\n## Routes\n\n| route | | takes | answers |\n|---|---|---|---|\n",
    ]
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            cells = [f"`{method.upper()} {path}`", route.get("summary", ""), _asked(route), _answered(route)]
            parts.append(f"| {' | '.join(cells)} |\n")
    parts.append("\n## Models\n")
    for name, schema in sorted(document["components"]["schemas"].items()):
        parts.append(
            f"\n### {name}\n\n{schema.get('description', '')}\n\n| field | type | default |\n|---|---|---|\n"
        )
        required = schema.get("required", ())
        for field, kind in schema.get("properties", {}).items():
            default = "required" if field in required else f"`{json.dumps(kind.get('default'))}`"
            parts.append(f"| `{field}` | {_type(kind)} | {default} |\n")
    return "".join(parts).replace("\n\n\n", "\n\n")


def _document() -> dict[str, Any]:
    """The document of a service that answers nothing."""
    service = cast(Any, SimpleNamespace(replicas=SimpleNamespace(table=ServeTable(), metrics=Metrics())))
    app = application(service, tokens=BearerTokens(None), change=cast(Any, None))
    return cast(dict[str, Any], TestClient(app).get("/openapi.json").json())


def _asked(route: dict[str, Any]) -> str:
    parts = [f"`{one['name']}`" for one in route.get("parameters", ())]
    for kind, content in route.get("requestBody", {}).get("content", {}).items():
        parts.append(f"{_type(content['schema'])} ({kind.partition('/')[2]})")
    return ", ".join(parts)


def _answered(route: dict[str, Any]) -> str:
    parts = []
    for status, answer in route["responses"].items():
        if status.startswith("2"):
            kinds = answer.get("content", {}).items()
            parts += [_type(content["schema"]) if content.get("schema") else kind for kind, content in kinds]
    return ", ".join(dict.fromkeys(filter(None, parts)))


def _type(schema: dict[str, Any]) -> str:
    if name := schema.get("$ref", "").rpartition("/")[2]:
        return f"[{name}](#{name.lower()})"
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(_type(choice) for choice in choices)
    if values := schema.get("enum"):
        return ", ".join(f"`{value}`" for value in values)
    if "items" in schema:
        return f"list of {_type(schema['items'])}"
    bounds = [f"{sign} {schema[key]}" for key, sign in (("minimum", "≥"), ("maximum", "≤")) if key in schema]
    return " ".join([str(schema.get("type", "any")), *bounds])
