"""What a request's body and query string say, as models. One that does not hold raises HTTPException."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from crater_ray.request import Box, Filter, Near, SearchRequest, parse_box, parse_near
from crater_ray.serve.models import MOST_BATCH, MOST_FILTERS, BatchBody, Options, SearchBody
from crater_ray.serve.problems import mistakes

Model = TypeVar("Model", bound=BaseModel)
JSON, FORM = "application/json", "multipart/form-data"
LONGEST_OPTIONS = 1 << 20  # bytes of `request` beside an image
_CURSOR = re.compile(r"([0-9]{1,6})\.([0-9]{1,15})")
_FILTERS = TypeAdapter(list[Filter])


async def one_query(request: Request) -> tuple[SearchRequest, bool]:
    """The search of POST /v1/search, an id in JSON or an image in a form, and whether it is strict."""
    if _media_type(request) == JSON:
        one = await body(request, SearchBody)
        return one.request(id=one.id), one.strict
    images, options = await _form(request, "image", 1)
    return options.request(image=images[0]), options.strict


async def many_queries(request: Request) -> tuple[list[SearchRequest], bool]:
    """The searches of POST /v1/search/batch, and whether they are strict."""
    if _media_type(request) == JSON:
        many = await body(request, BatchBody)
        return [many.request(id=id) for id in many.ids], many.strict
    images, options = await _form(request, "images", MOST_BATCH)
    return [options.request(image=image) for image in images], options.strict


async def body(request: Request, model: type[Model]) -> Model:
    """A JSON body."""
    if _media_type(request) != JSON:
        raise HTTPException(415, f"send {JSON}")
    return _parsed(await request.body(), model)


def page(
    cursor: str | None, filters: str | None, box: str | None, near: str | None
) -> tuple[tuple[int, int], list[Filter], Box | None, Near | None]:
    """Where a page begins, and what it is narrowed by."""
    place = _CURSOR.fullmatch(cursor or "0.0")
    if place is None:
        raise HTTPException(422, "cursor: use `next` of the page before")
    try:
        listed = _FILTERS.validate_json(filters) if filters else []
        if len(listed) > MOST_FILTERS:
            raise HTTPException(422, f"filters: at most {MOST_FILTERS}")
    except ValidationError as error:
        raise HTTPException(422, mistakes(error.errors())) from None
    inside, around = parse_box(box) if box else None, parse_near(near) if near else None
    return (int(place[1]), int(place[2])), listed, inside, around


def _media_type(request: Request) -> str:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (JSON, FORM):
        raise HTTPException(415, f"send {JSON} or {FORM}, not {kind[:60] or 'a body without a content type'}")
    return kind


def _parsed(text: bytes | str, model: type[Model], what: str = "the body") -> Model:
    try:
        plain: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise HTTPException(400, f"{what} is not JSON") from None
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        raise HTTPException(422, mistakes(error.errors())) from None


async def _form(request: Request, field: str, most: int) -> tuple[list[bytes], Options]:
    """The images of a form, and its options: the part `request`, JSON."""
    try:
        form = await request.form(max_files=most, max_fields=4, max_part_size=LONGEST_OPTIONS)
    except (HTTPException, ValueError) as error:  # python-multipart: a form cut short or malformed
        reason = error.detail if isinstance(error, HTTPException) else "malformed"
        raise HTTPException(400, f"the form cannot be read: {reason}") from None
    try:
        images = [await _image(part) for part in form.getlist(field)]
        if not images:
            raise HTTPException(422, f"{field}: send an image file under this name")
        return images, _options(form, (field, "request"))
    finally:
        await form.close()


async def _image(part: UploadFile | str) -> bytes:
    if isinstance(part, str):
        raise HTTPException(422, "an image is sent as a file, with a file name")
    kind = (part.content_type or "application/octet-stream").partition(";")[0].strip().lower()
    if not (kind.startswith("image/") or kind == "application/octet-stream"):
        raise HTTPException(415, f"a part of {kind[:60]}, not an image")
    return await part.read()


def _options(form: FormData, known: Sequence[str]) -> Options:
    for name in form:
        if name not in known:
            raise HTTPException(422, f"{name[:60]}: no such part; there are: {', '.join(known)}")
    options = form.get("request", "{}")
    if not isinstance(options, str):
        raise HTTPException(422, "request: send it as text, without a file name")
    return _parsed(options, Options, "request, a part of the form,")
