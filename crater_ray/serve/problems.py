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
AFTER = {429: 1, 503: 2}  # seconds, of Retry-After
SHOWN = 5  # mistakes of one request that are listed
LONGEST = 500  # characters of a detail


class Refused(Exception):
    """A request that is not answered as asked: a status, words for the caller, and headers of the reply."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


def problem(status: int, detail: str, request_id: str | None) -> Problem:
    title = HTTPStatus(status).phrase
    return Problem(title=title, status=status, detail=detail[:LONGEST], request_id=request_id)


def of_error(error: Exception, request_id: str | None) -> Problem:
    """What a caller is told of an error; one that is nobody's mistake is logged and not told."""
    if isinstance(error, Refused):
        return problem(error.status, error.detail, request_id)
    if isinstance(error, UnknownItem):
        return problem(404, error.message, request_id)
    if isinstance(error, QueryError):
        return problem(422, error.message, request_id)
    if isinstance(error, Busy):
        return problem(503, "every replica's queue is full; try again", request_id)
    if isinstance(error, Late):
        return problem(504, f"{error.message}; ask for less, or try again", request_id)
    if isinstance(error, NoAnswer) and not isinstance(error, Fault):
        return problem(503, error.message, request_id)
    if isinstance(error, RequestValidationError | ValidationError):
        return problem(422, mistakes(error.errors()), request_id)
    if isinstance(error, HTTPException):
        return problem(error.status_code, _no_route(error) or str(error.detail), request_id)
    kind = "" if isinstance(error, CraterRayError) else f"{type(error).__name__}: "
    logger.error("%s%s", kind, error, exc_info=error)
    return problem(500, "this is a fault of the service; its log says more under the request_id", request_id)


def mistakes(errors: Iterable[Mapping[str, Any]]) -> str:
    """One line of what pydantic found, without the values that were given."""
    found = list(errors)
    lines = [f"{'.'.join(map(str, one['loc'])) or 'the request'}: {in_words(one)}" for one in found[:SHOWN]]
    return "; ".join(lines) + (f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else "")


def _no_route(error: HTTPException) -> str | None:
    """Where the router itself refuses, with no more than the status's name."""
    if error.status_code == 404 and error.detail == HTTPStatus.NOT_FOUND.phrase:
        return "no such route; /docs lists every one"
    allowed = (error.headers or {}).get("Allow")
    return f"not by this method; allowed: {allowed}" if error.status_code == 405 and allowed else None


def headers(status: int) -> dict[str, str]:
    """What goes with a problem of that status."""
    extra = {"cache-control": "no-store"}
    if status in AFTER:
        extra["retry-after"] = str(AFTER[status])
    if status == 401:
        extra["www-authenticate"] = 'Bearer realm="crater-ray"'
    return extra


def more(error: Exception) -> dict[str, str]:
    """The headers that an error brings along, such as Allow."""
    return dict(getattr(error, "headers", None) or {})


def body(told: Problem) -> bytes:
    return json.dumps(told.model_dump(exclude_none=True), ensure_ascii=False).encode()


def answer(told: Problem, extra: Mapping[str, str]) -> Response:
    return Response(
        body(told), told.status, headers=headers(told.status) | dict(extra), media_type=MEDIA_TYPE
    )


def install(app: FastAPI) -> None:
    """Every error of a route becomes a problem."""

    async def told(request: Request, error: Exception) -> Response:
        return answer(of_error(error, request.scope.get("crater_ray.request_id")), more(error))

    for kind in (
        Refused,
        CraterRayError,
        Busy,
        RequestValidationError,
        ValidationError,
        HTTPException,
        Exception,
    ):
        app.add_exception_handler(kind, told)
