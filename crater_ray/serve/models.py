"""Requests and replies over HTTP: the OpenAPI document is made of these."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from crater_ray.request import Box, Filter, Near, SearchOptions, SearchRequest
from crater_ray.types import Mode, TokenPair, candidates_in, refuse_explain

MOST_TOP = 1_000
MOST_CANDIDATES = 10_000
MOST_EXPAND = 10
MOST_FILTERS = 16
MOST_BATCH = 32  # queries of one batch
MOST_ITEMS = 10_000  # items of one page

Id = Annotated[str, Field(min_length=1, max_length=512)]
Value = str | int | float | bool | None  # of a column; dates and the like are given as text


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Output(BaseModel):
    model_config = ConfigDict(frozen=True)


class Options(_Input):
    """How a query is answered, whatever it is."""

    top: Annotated[int, Field(ge=1, le=MOST_TOP)] = 10
    mode: Mode = "shortlist"
    candidates: Annotated[int, Field(ge=1, le=MOST_CANDIDATES)] | None = None  # mode shortlist: 200
    expand: Annotated[int, Field(ge=0, le=MOST_EXPAND)] = 0  # first hits that join the query
    strict: bool = False  # 503 rather than an answer that lacks a shard
    explain: bool = False  # the pairs of tokens behind each score; not in mode shortlist-only
    filters: Annotated[tuple[Filter, ...], Field(max_length=MOST_FILTERS)] = Field(default_factory=tuple)
    box: Box | None = None
    near: Near | None = None

    @model_validator(mode="after")
    def _used(self) -> Self:
        candidates_in(self.mode, self.candidates)
        refuse_explain(self.mode, self.explain)
        return self

    def request(self, image: bytes | None = None, id: str | None = None) -> SearchRequest:
        """The request of one query under these options."""
        options = {name: value for name, value in self if name in SearchOptions.__annotations__}
        return SearchRequest(image, id, **options)


class SearchBody(Options):
    """An item of the index as a query. An image (multipart) goes with `Options`, the same without `id`."""

    id: Id


class BatchBody(Options):
    """Items of the index as queries, all under the same options."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=MOST_BATCH)]


class VersionBody(_Input):
    """Which version becomes the current one: a number that the index has, or null for its newest."""

    version: Annotated[int, Field(ge=1, le=10**9)] | None = None


class Grid(_Output):
    """The patch tokens of one image: equal cells over the whole of it, row by row from the upper left."""

    rows: int
    columns: int


class Places(_Output):
    """Where tokens lie: `places[token]` is x and y, 0 to 1 from the upper left; null: unknown."""

    grid: Grid
    places: list[tuple[float, float]] | None


class SearchHit(_Output):
    rank: int
    id: str
    group: str
    score: float
    columns: dict[str, Value]  # the item's own, such as lat, lon, diameter_km, body
    explanation: list[TokenPair] | None = None  # largest contribution first; only with explain


class IndexVersion(_Output):
    name: str
    version: int


class Shards(_Output):
    """How many searchers the index is spread over, and how many had a part in this answer."""

    answered: int
    total: int


class Query(_Output):
    """The query as it was understood."""

    id: str | None  # None: an image
    group: str | None = None
    columns: dict[str, Value] | None = None  # of an item
    tokens: int  # Q
    where: Places | None = None  # of an image, only with explain; an item's: GET /v1/items/{id}/tokens


class SearchReply(_Output):
    request_id: str
    index: IndexVersion
    mode: Mode
    candidates: int | None  # that were reranked; null: the mode reranks none
    expand: int
    top: int
    filters: list[Filter]
    box: Box | None
    near: Near | None
    query: Query
    hits: list[SearchHit]
    shards: Shards
    seconds: dict[str, float]  # by stage, such as decode, encode, search, total


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    model_config = ConfigDict(extra="allow")
    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str | None = None
    request_id: str | None = None


class BatchReply(_Output):
    """An answer or a problem for each query, in the order asked."""

    request_id: str
    replies: list[SearchReply | Problem]


class Item(_Output):
    id: str
    group: str
    columns: dict[str, Value]
    index: IndexVersion
    image: str  # where its image is


class ItemTokens(_Output):
    """Where the tokens that the index keeps of an item lie in its image."""

    id: str
    where: Places


class Items(_Output):
    """One page of items, as a table: `rows[i][j]` is the value of `columns[j]`."""

    index: IndexVersion
    columns: list[str]
    rows: list[list[Value]]
    total: int  # items that pass the filters, on all pages
    next: str | None  # the next page's cursor; null: this was the last


class Column(_Output):
    """One of the items' own columns, with what a filter over it may name."""

    name: str
    type: Literal["number", "text", "boolean", "other"]
    min: float | None = None  # of numbers
    max: float | None = None
    values: list[str] | None = None  # of text, where there are few


class BaseMap(_Output):
    """A simple-cylindrical image of the body: the whole globe unless [serve] says otherwise."""

    url: str
    body: str | None
    width: int
    height: int
    west: float  # degrees of the left edge
    east: float
    south: float
    north: float


class Limits(_Output):
    bytes: int  # of a request's body
    pixels: int  # of a query image
    top: int = MOST_TOP
    candidates: int = MOST_CANDIDATES
    batch: int = MOST_BATCH
    timeout_s: float  # of a request


class IndexConfig(_Output):
    """How views became what is searched."""

    backbone: str
    shortlist: str
    rerank: str
    k: int
    dim: int
    codec: str
    scoring: str
    grid: Grid


class IndexReply(_Output):
    name: str
    version: int  # the current one: every answer is of one version
    held: list[int]  # open in every searcher; more than one while a version is being changed
    published: list[int]  # on disk
    items: int
    parts: int
    segments: int
    shards: Shards  # answering now
    columns: list[Column]
    config: IndexConfig
    limits: Limits
    basemaps: list[BaseMap]  # one a body, or one alone


class Ready(_Output):
    ready: bool
    version: int | None = None
    shards: Shards | None = None
