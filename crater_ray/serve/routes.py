"""The routes of /v1, as FastAPI documents them."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from fastapi.responses import FileResponse

from crater_ray.request import SearchRequest
from crater_ray.serve import requests
from crater_ray.serve.basemap import Map, of_body
from crater_ray.serve.calls import gathered
from crater_ray.serve.models import (
    MOST_ITEMS,
    BatchBody,
    BatchReply,
    IndexReply,
    Item,
    Items,
    ItemTokens,
    Options,
    Problem,
    SearchBody,
    SearchReply,
    VersionBody,
)
from crater_ray.serve.problems import MEDIA_TYPE, of_error
from crater_ray.serve.service import Service

NO_MAP = "no base map is named in [serve]"
Change = Callable[[int | None], Awaitable[None]]  # changes the current version; None: to the newest

_PROBLEM = {"model": Problem, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
REASONS = {
    400: "A request that does not parse",
    401: "No token, or a wrong one",
    404: "No such item, version or path",
    408: "The body did not arrive in time",
    409: "Another change of version is under way",
    413: "More bytes than the service takes",
    415: "Another content type",
    421: "Another host's name",
    422: "A value out of bounds, an unknown column, an image that cannot be used",
    429: "Too many requests at once",
    500: "A fault of the service",
    503: "No shard answered, or with strict not every one",
    504: "No answer in time",
}


def _may(*statuses: int) -> dict[int | str, dict[str, Any]]:
    common = (400, 401, 408, 413, 421, 422, 429, 500, 503, 504)
    return {status: {**_PROBLEM, "description": REASONS[status]} for status in sorted({*common, *statuses})}


def _asks(model: str, field: str, several: bool) -> dict[str, Any]:
    """A body that is JSON or a form, which FastAPI cannot say by itself."""
    file = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "required": [field],
        "additionalProperties": False,
        "properties": {
            field: {"type": "array", "items": file, "minItems": 1} if several else file,
            "request": {"type": "string", "contentMediaType": "application/json"},
        },
    }
    schema = {"$ref": f"#/components/schemas/{model}"}
    content = {requests.JSON: {"schema": schema}, requests.FORM: {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}


Id = Annotated[str, Path(min_length=1, max_length=512, description="An item's id, percent-encoded")]


def router(service: Service, change: Change, basemaps: Sequence[Map]) -> APIRouter:
    """Every route below /v1, where a guard stands before it."""
    api = APIRouter(redirect_slashes=False)

    @api.post(
        "/search",
        response_model=SearchReply,
        responses=_may(404, 415),
        openapi_extra=_asks("SearchBody", "image", False),
        summary="What looks like an item of the index, or like an image",
    )
    async def search(request: Request) -> Response:
        wanted, strict = await requests.one_query(request)
        reply = await service.search(wanted, strict, _name(request))
        request.scope["crater_ray.seconds"].update(reply.seconds)
        # written here: FastAPI would check again what was made of checked models a moment ago
        return Response(reply.model_dump_json(), media_type=requests.JSON)

    @api.post(
        "/search/batch",
        responses=_may(415),
        openapi_extra=_asks("BatchBody", "images", True),
        summary="Several queries under the same options; each has an answer or a problem of its own",
    )
    async def search_batch(request: Request) -> BatchReply:
        wanted, strict = await requests.many_queries(request)
        request.scope["crater_ray.places"].take(len(wanted) - 1)
        replies = await gathered(_own(service, one, strict, _name(request)) for one in wanted)
        return BatchReply(request_id=_name(request), replies=replies)

    @api.get("/items", responses=_may(), summary="The items that pass some filters, page by page")
    async def items(
        limit: Annotated[int, Query(ge=1, le=MOST_ITEMS)] = 1000,
        cursor: Annotated[str | None, Query(max_length=32)] = None,
        columns: Annotated[
            str | None, Query(max_length=2048, description="Names with commas between")
        ] = None,
        filters: Annotated[str | None, Query(max_length=65536, description="A JSON list of Filter")] = None,
        box: Annotated[str | None, Query(max_length=128, description="west,south,east,north")] = None,
        near: Annotated[str | None, Query(max_length=128, description="lat,lon,km")] = None,
    ) -> Items:
        place, listed, inside, around = requests.page(cursor, filters, box, near)
        wanted = [name for name in columns.split(",") if name] if columns is not None else None
        return await service.items(place, limit, wanted, listed, inside, around)

    @api.get(
        "/items/{id:path}/image",
        responses={
            **_may(404),
            200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
            304: {"description": "Not changed"},
        },
        response_class=Response,
        summary="An item's image, through the reader that listed it",
    )
    async def image(
        request: Request, id: Id, size: Annotated[int | None, Query(ge=16, le=2048)] = None
    ) -> Response:
        named = f"{service.name}\0{service.pin.version}\0{id}\0{size}"
        tag = f'"{hashlib.sha256(named.encode("utf-8", "replace")).hexdigest()[:32]}"'
        kept = {"etag": tag, "cache-control": "private, max-age=300"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=kept)
        return Response(await service.picture(id, size), media_type="image/png", headers=kept)

    @api.get(
        "/items/{id:path}/tokens",
        responses=_may(404),
        summary="Where the tokens that the index keeps of an item lie in its image",
    )
    async def tokens(id: Id) -> ItemTokens:
        return await service.tokens(id)

    @api.get("/items/{id:path}", responses=_may(404), summary="What the index knows of an item")
    async def item(request: Request, id: Id) -> Item:
        found = await service.item(id)
        return found.model_copy(update={"image": _prefix(request) + found.image})

    @api.get("/index", responses=_may(), summary="Version, columns, index config, limits and base map")
    async def index(request: Request) -> IndexReply:
        return await service.describe([one.reply for one in basemaps], _prefix(request))

    @api.put(
        "/index/version",
        status_code=202,
        responses=_may(404, 409, 415),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {requests.JSON: {"schema": {"$ref": "#/components/schemas/VersionBody"}}},
            }
        },
        summary="Change the current version, to an older one too; GET /v1/index says when it is done",
    )
    async def version(request: Request) -> IndexReply:
        await change((await requests.body(request, VersionBody)).version)
        return await service.describe([one.reply for one in basemaps], _prefix(request))

    @api.get(
        "/basemap",
        responses={
            **_may(404),
            200: {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}},
        },
        response_class=Response,
        summary="The image of a body that the explorer's map is drawn on",
    )
    async def base(body: Annotated[str | None, Query(max_length=128)] = None) -> Response:
        found = of_body(basemaps, body)
        if found is None:
            raise HTTPException(404, "no base map of that body is named in [serve]" if basemaps else NO_MAP)
        return FileResponse(
            found.path, media_type=found.media_type, headers={"cache-control": "private, max-age=3600"}
        )

    return api


MODELS = (Options, SearchBody, BatchBody, VersionBody, Problem)  # that the document names by hand


async def _own(service: Service, wanted: SearchRequest, strict: bool, name: str) -> SearchReply | Problem:
    try:
        return await service.search(wanted, strict, name)
    except Exception as error:  # each has an answer or a problem of its own
        return of_error(error, name)


def _prefix(request: Request) -> str:
    """What stands before the service's own paths, for the addresses in a reply."""
    return quote(request.scope["crater_ray.prefix"])


def _name(request: Request) -> str:
    return str(request.scope["crater_ray.request_id"])
