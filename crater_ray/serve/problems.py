"""Errors as RFC 9457 problem documents: what went wrong in words, never a stack trace or a path."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from crater_ray.errors import CraterRayError, QueryError
from crater_ray.plugins.registry import in_words
from crater_ray.serve.calls import Busy, Fault, Late, NoAnswer
from crater_ray.serve.models import Problem
from crater_ray.serve.searcher import UnknownItem

logger = logging.getLogger("ray.serve")
MEDIA_TYPE = "application/problem+json"
HEADERS = {  # that go with a problem of a status
    401: {"www-authenticate": 'Bearer realm="crater-ray"'},
    429: {"retry-after": "1"},
    503: {"retry-after": "2"},
}
SHOWN = 5  # mistakes of one request that are listed
LONGEST = 500  # characters of a detail


def of_error(error: Exception, request_id: str | None) -> Problem:
    """The problem of an error; of one that is not the caller's mistake only the log says more."""
    status, detail = _of_error(error)
    title = HTTPStatus(status).phrase
    return Problem(title=title, status=status, detail=detail[:LONGEST], request_id=request_id)


def _of_error(error: Exception) -> tuple[int, str]:
    match error:
        case HTTPException(status_code=404, detail=HTTPStatus.NOT_FOUND.phrase):  # the router's own
            return 404, "no such route; /docs lists every one"
        case HTTPException(status_code=405, headers={"Allow": allowed}):
            return 405, f"not by this method; allowed: {allowed}"
        case HTTPException():
            return error.status_code, str(error.detail)
        case UnknownItem():
            return 404, error.message
        case QueryError():
            return 422, error.message
        case RequestValidationError() | ValidationError():
            return 422, mistakes(error.errors())
        case Busy():
            return 503, "every replica's queue is full; try again"
        case Late():
            return 504, f"{error.message}; ask for less, or try again"
        case NoAnswer() if not isinstance(error, Fault):
            return 503, error.message
    kind = "" if isinstance(error, CraterRayError) else f"{type(error).__name__}: "
    logger.error("%s%s", kind, error, exc_info=error)
    return 500, "this is a fault of the service; its log says more under the request_id"


def mistakes(errors: Iterable[Mapping[str, Any]]) -> str:
    """One line of what pydantic found, without the values that were given."""
    found = list(errors)
    lines = [f"{'.'.join(map(str, one['loc'])) or 'the request'}: {in_words(one)}" for one in found[:SHOWN]]
    return "; ".join(lines) + (f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else "")


def reply(error: Exception, request_id: str | None) -> Response:
    """The reply to a request that ended with an error."""
    problem = of_error(error, request_id)
    body = json.dumps(problem.model_dump(exclude_none=True), ensure_ascii=False)
    own = getattr(error, "headers", None) or {}  # such as Allow
    headers = {"cache-control": "no-store", **HEADERS.get(problem.status, {}), **own}
    return Response(body, problem.status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Every error of a route becomes a problem."""

    async def handler(request: Request, error: Exception) -> Response:
        return reply(error, request.scope.get("crater_ray.request_id"))

    # by ExceptionMiddleware, but for Exception, which is ServerErrorMiddleware's: it raises it again
    for kind in (CraterRayError, Busy, RequestValidationError, ValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, handler)
