"""How an index is searched: one frozen request, whether the CLI, Python, HTTP or a job asks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Self, TypedDict, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from crater_ray.errors import QueryError
from crater_ray.types import candidates_in, refuse_explain

Finite = Annotated[float, Field(allow_inf_nan=False)]
Circle = TypeVar("Circle", "Near", "Place")
MOST_VALUES = 256  # of one filter's `any_of`
MOST_EXPAND = 100  # hits that join a query


class Filter(BaseModel):
    """Keeps the items whose column is one of some values, or lies in a range, ends included."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: Annotated[str, Field(min_length=1, max_length=128)]
    any_of: Annotated[list[str | int | Finite], Field(min_length=1, max_length=MOST_VALUES)] | None = None
    min: Finite | None = None
    max: Finite | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if (self.any_of is None) == (self.min is None and self.max is None):
            raise ValueError("a filter is any_of, or min and max, or one of these two")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min lies above max")
        return self

    def in_words(self) -> str:
        """As the command line takes it."""
        if self.any_of is not None:
            return f"{self.column}={','.join(map(str, self.any_of))}"
        if self.min is None or self.max is None:
            return f"{self.column}<={self.max:g}" if self.min is None else f"{self.column}>={self.min:g}"
        return f"{self.column}={self.min:g}:{self.max:g}"


class Box(BaseModel):
    """Keeps the items whose lat and lon, in degrees, lie inside; across 180° west is the greater."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    west: Annotated[float, Field(ge=-360, le=360)]
    south: Annotated[float, Field(ge=-90, le=90)]
    east: Annotated[float, Field(ge=-360, le=360)]
    north: Annotated[float, Field(ge=-90, le=90)]

    @model_validator(mode="after")
    def _upright(self) -> Self:
        if self.south > self.north:
            raise ValueError("south lies above north")
        return self


class Near(BaseModel):
    """Keeps the items within some kilometres of a place, on the ground of their own body."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lat: Annotated[float, Field(ge=-90, le=90)]
    lon: Annotated[float, Field(ge=-360, le=360)]
    km: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Place(BaseModel):
    """A query: a crater of some size at a place, as the index's own reader would cut it out of its raster."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lat: Annotated[float, Field(ge=-90, le=90)]
    lon: Annotated[float, Field(ge=-360, le=360)]
    km: Annotated[float, Field(gt=0, allow_inf_nan=False)]  # the crater's diameter
    body: Annotated[str, Field(min_length=1)] | None = None  # of an index of several

    def in_words(self) -> str:
        """As the command line takes it."""
        return ",".join(
            [f"{self.lat:g}", f"{self.lon:g}", f"{self.km:g}", *([self.body] if self.body else [])]
        )


_FILTER = re.compile(r"([^=<>!]+?)\s*(<=|>=|=>|=<|!=|<>|==|=|<|>)(.*)", re.DOTALL)
_MEANT = {"=>": ">=", ">": ">=", "=<": "<=", "<": "<=", "==": "="}
_HOW = "write column=value,value or column=min:max or column>=min"


def parse_filter(text: str) -> Filter:
    """`column=a,b`, `column=min:max` with either end left out, `column>=min`, `column<=max`.

    Raises QueryError.
    """
    try:
        if (found := _FILTER.fullmatch(text)) is None or not found[3].strip(" :"):
            raise ValueError(_HOW)
        column, sign, values = found[1].strip(), found[2], found[3]
        if sign in ("!=", "<>"):
            raise ValueError(f"a filter names what passes, and has no {sign}; {_HOW}")
        if sign in _MEANT:
            raise ValueError(f"write {column}{_MEANT[sign]}{values.strip()}; ends are included")
        if sign != "=":
            end = _end(values)
            return Filter(column=column, min=end) if sign == ">=" else Filter(column=column, max=end)
        ends = _range(values)
        if ends is not None:
            return Filter(column=column, min=ends[0], max=ends[1])
        return Filter(column=column, any_of=[*values.split(",")])
    except ValueError as error:
        raise QueryError(f"filter {text!r}: {_first_line(error)}") from None


def _range(text: str) -> tuple[float | None, float | None] | None:
    """Of `min:max`; None for a text, which may have a colon."""
    low, colon, high = text.partition(":")
    try:
        for end in (low, high):
            float(end or 0)
    except ValueError:
        return None
    return (_end(low) if low else None, _end(high) if high else None) if colon else None


def _end(text: str) -> float:
    try:
        end = float(text)
    except ValueError:
        raise ValueError(f"an end of a range is a number, not {text.strip()!r}; text is column=a,b") from None
    if not math.isfinite(end):
        raise ValueError(f"an end of a range is a finite number, not {text.strip()!r}; or leave it out")
    return end


def parse_box(text: str) -> Box:
    """`west,south,east,north` in degrees. Raises QueryError."""
    try:
        west, south, east, north = (float(side) for side in text.split(","))
        return Box(west=west, south=south, east=east, north=north)
    except ValueError as error:
        how = "write west,south,east,north"
        reason = f"{_first_line(error)}; {how}" if isinstance(error, ValidationError) else how
        raise QueryError(f"box {text!r}: {reason}") from None


def parse_near(text: str) -> Near:
    """`lat,lon,km`, degrees and kilometres. Raises QueryError."""
    return _circle("near", Near, text, "lat,lon,km")


def parse_place(text: str) -> Place:
    """`lat,lon,km` or `lat,lon,km,body`, degrees and kilometres. Raises QueryError."""
    *numbers, body = text.split(",") if text.count(",") == 3 else [*text.split(","), ""]
    named = {"body": body.strip()} if body.strip() else {}
    return _circle("place", Place, ",".join(numbers), "lat,lon,km or lat,lon,km,body", **named)


def _circle(what: str, kind: type[Circle], text: str, how: str, **more: str) -> Circle:
    try:
        lat, lon, km = (float(number) for number in text.split(","))
    except ValueError:
        raise QueryError(f"{what} {text!r}: write {how}") from None
    try:
        return kind(lat=lat, lon=lon, km=km, **more)
    except ValidationError as error:
        swapped = abs(lat) > 90 >= abs(lon)
        hint = f"; latitude comes first: did you mean {lon:g},{lat:g},{km:g}?" if swapped else ""
        raise QueryError(f"{what} {text!r}: {_first_line(error)}{hint}") from None


def parse_crop(text: str) -> tuple[int, int, int, int]:
    """`x,y,width,height` in pixels from the upper left. Raises QueryError."""
    try:
        x, y, width, height = (int(number) for number in text.split(","))
    except ValueError:
        raise QueryError(f"crop {text!r}: write x,y,width,height in whole pixels") from None
    if min(x, y) < 0 or min(width, height) < 1:
        raise QueryError(f"crop {text!r}: x and y count from 0, width and height from 1")
    return x, y, width, height


def _first_line(error: ValueError) -> str:
    from crater_ray.plugins.registry import in_words

    if not isinstance(error, ValidationError):
        return str(error)
    problem = error.errors()[0]
    field = ".".join(str(step) for step in problem["loc"])
    return f"{field}: {in_words(problem)}" if field else in_words(problem)


class SearchOptions(TypedDict, total=False):
    """The fields of a SearchRequest beside its query, as keywords."""

    top: int
    mode: str
    candidates: int | None
    expand: int
    filters: tuple[Filter, ...]
    box: Box | None
    near: Near | None
    explain: bool
    version: int | None


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What is searched for and how. Queries that are encoded already have no image, id or place here.

    Raises QueryError for a number out of bounds, an unknown mode, candidates in a mode that reranks none, and
    explain in mode shortlist-only.
    """

    image: bytes | np.ndarray[Any, Any] | None = field(default=None, repr=False)  # or (H, W, 3) uint8
    id: str | None = None  # an item of the index; it is not its own hit
    place: Place | None = None  # of the index's own raster, cut as its reader cuts a crater
    top: int = 10
    mode: str = "shortlist"  # or "exact", which scores every image; "shortlist-only" reranks none
    candidates: int | None = None  # of the shortlist, reranked; None: CANDIDATES
    expand: int = 0  # first hits that join the query, which is then searched again
    filters: tuple[Filter, ...] = ()
    box: Box | None = None
    near: Near | None = None
    explain: bool = False  # fill Hit.explanation
    version: int | None = None  # of the index; None: the one that is open

    def __post_init__(self) -> None:
        if self.image is not None and not isinstance(self.image, bytes | np.ndarray):
            kind = type(self.image).__name__
            raise QueryError(f"an image is bytes or an array, not {kind}; of a file: Path(...).read_bytes()")
        if self.id is not None and not isinstance(self.id, str):
            raise QueryError(f"id is the text of an item's id, not {self.id!r}")
        if not isinstance(self.explain, bool | np.bool_):
            raise QueryError(f"explain is True or False, not {self.explain!r}")
        if not isinstance(self.filters, tuple | list) or not all(
            isinstance(one, Filter) for one in self.filters
        ):
            raise QueryError(
                'filters is a tuple of crater_ray.Filter, such as (Filter(column="body", any_of=["moon"]),)'
            )
        if self.box is not None and not isinstance(self.box, Box):
            raise QueryError("box is a crater_ray.Box, such as Box(west=0, south=20, east=50, north=40)")
        if self.near is not None and not isinstance(self.near, Near):
            raise QueryError("near is a crater_ray.Near, such as Near(lat=-43.3, lon=-11.4, km=200)")
        if self.place is not None and not isinstance(self.place, Place):
            raise QueryError("place is a crater_ray.Place, such as Place(lat=-43.3, lon=-11.4, km=85)")
        if sum(one is not None for one in (self.image, self.id, self.place)) > 1:
            raise QueryError("a query is one image or one id or one place")
        for name in ("top", "candidates", "expand", "version"):
            number = getattr(self, name)
            if number is None and name in ("candidates", "version"):
                continue
            if isinstance(number, bool) or not isinstance(number, int | np.integer):
                raise QueryError(f"{name} is a whole number, not {number!r}")
        if self.top < 1 or (self.candidates is not None and self.candidates < 1):
            raise QueryError(f"top and candidates must be 1 or more, not {self.top} and {self.candidates}")
        if not 0 <= self.expand <= MOST_EXPAND:
            raise QueryError(f"expand is 0 to {MOST_EXPAND} hits, not {self.expand}")
        try:
            candidates_in(self.mode, self.candidates)
            refuse_explain(self.mode, self.explain)
        except ValueError as error:
            raise QueryError(str(error)) from None

    @property
    def deep(self) -> int | None:
        """Images that are reranked, as asked; None in a mode that reranks none."""
        return candidates_in(self.mode, self.candidates)

    @property
    def reranked(self) -> int | None:
        """Images that are reranked, at least `top`; None in a mode that reranks none."""
        return None if self.deep is None else max(self.deep, self.top)

    @property
    def shortlisted(self) -> int | None:
        """Images that the shortlist gives; None in mode exact, which has none."""
        return self.top if self.mode == "shortlist-only" else self.reranked

    @property
    def by_tokens(self) -> bool:
        """Whether scores are of late interaction: they can be explained."""
        return self.mode != "shortlist-only"

    def described(self) -> Mapping[str, Any]:
        """How it is searched, for answers, tables and reports."""
        return {
            "mode": self.mode,
            "candidates": self.reranked,
            "expand": self.expand,
            "top": self.top,
            "filters": [one.model_dump(exclude_none=True) for one in self.filters],
            "box": None if self.box is None else self.box.model_dump(),
            "near": None if self.near is None else self.near.model_dump(),
        }

    def in_words(self) -> str:
        """How it is searched, in one line."""
        told = [self.mode]
        if self.reranked is not None:
            told.append(f"{self.reranked} candidates")
        if self.expand:
            told.append(f"expanded by {self.expand}")
        told += [one.in_words() for one in self.filters]
        if self.box is not None:
            told.append("box " + ",".join(f"{side:g}" for side in self.box.model_dump().values()))
        if self.near is not None:
            told.append(f"within {self.near.km:g} km of {self.near.lat:g},{self.near.lon:g}")
        return ", ".join(told)

    @property
    def narrowed(self) -> bool:
        """Whether not every item may answer."""
        return bool(self.filters) or self.box is not None or self.near is not None

    def first_pass(self) -> SearchRequest:
        """The search for the hits that join the query."""
        size = self.reranked
        candidates = None if size is None else max(size, self.expand)
        return replace(self, top=self.expand, candidates=candidates, expand=0, explain=False)
