"""The nouns: what travels between the rooms. Importing this imports neither torch nor pyarrow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor

Side = Literal["gallery", "query"]
Mode = Literal["exact", "shortlist", "shortlist-only"]  # of a search
MODES: Final[tuple[Mode, ...]] = get_args(Mode)
MAX_PIXELS: Final = 64_000_000  # of an image, unless a job says otherwise
CANDIDATES: Final = 200  # of a shortlist, reranked, by default: docs/benchmarks/scale.md says why


def candidates_in(mode: str, candidates: int | None) -> int | None:
    """Images that a search reranks: the default where none are named, None in a mode that reranks none.

    Raises ValueError for candidates that the mode does not use, and for a mode that there is not.
    """
    if mode == "shortlist":
        return CANDIDATES if candidates is None else candidates
    if mode not in MODES:
        raise ValueError(f"mode {mode!r} is not one of {', '.join(MODES)}")
    without = {"exact": "scores every image", "shortlist-only": "ranks by one vector an image"}
    if candidates is not None:
        raise ValueError(
            f"candidates = {candidates}: mode {mode} {without[mode]} and has none; "
            "leave candidates out, or ask in mode shortlist"
        )
    return None


def refuse_explain(mode: str, explain: bool) -> None:
    """Raises ValueError where no pairs of tokens make up a score."""
    if explain and mode == "shortlist-only":
        raise ValueError(
            "explain: mode shortlist-only ranks by one vector an image, and no pairs of tokens make up its "
            "scores; leave explain out, or ask in mode shortlist"
        )


@dataclass(frozen=True, slots=True)
class Item:
    """One image, as a reader lists it: plain data, no pixels."""

    id: str  # unique in the index
    group: str  # crater id; a photo is its own group
    uri: str  # what the reader's load() takes; relative to the reader's own root
    stamp: str = ""  # changes when the image does
    relevant: Mapping[str, float] = field(default_factory=dict)  # query: group -> gain; empty: its own group
    columns: Mapping[str, object] = field(default_factory=dict)  # of Reader.columns


@dataclass(frozen=True, slots=True)
class TokenShape:
    """What a backbone gives: known before it runs, so that a job is checked in seconds."""

    dim: int
    grid: tuple[int, int]  # rows, columns of patch tokens
    heads: int  # of the last block's attention; 0: no attention
    cls: bool  # whether there is a class token

    @property
    def tokens(self) -> int:
        """T, the patch tokens of one image."""
        return self.grid[0] * self.grid[1]


@dataclass(frozen=True, slots=True)
class Tokens:
    """One batch through a backbone. N images, T = rows x columns patch tokens, D dim, H heads."""

    patches: Tensor  # (N, T, D) float, not normalised
    grid: tuple[int, int]
    cls: Tensor | None = None  # (N, D)
    attention: Tensor | None = None  # (N, H, T), class token to patches, last block
    attention_column: Tensor | None = None  # (N, H, T), patches to class token (SupScene's code)
    valid: Tensor | None = None  # (N, T) bool, which patches stand for something; None: all of them

    @property
    def present(self) -> Tensor:
        """(N, T) bool: the patches that stand for something. One of zeros has no direction and does not."""
        there: Tensor = (self.patches != 0).any(-1)
        return there if self.valid is None else there & self.valid

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What there is of each image, by field."""
        named = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "grid"}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def map(self, change: Callable[[Tensor], Tensor]) -> Tokens:
        """The same Tokens with `change` applied to each tensor."""
        changed: dict[str, Any] = {name: change(tensor) for name, tensor in self.tensors.items()}
        return replace(self, **changed)

    @property
    def shape(self) -> TokenShape:
        heads = 0 if self.attention is None else self.attention.shape[1]
        return TokenShape(self.patches.shape[2], self.grid, heads, self.cls is not None)


@dataclass(frozen=True, slots=True)
class TokenPair:
    """A query token and a gallery token whose similarity is part of the score, by the index's scoring."""

    query_token: int
    gallery_token: int
    similarity: float  # their cosine
    contribution: float  # to the score; all of a hit's sum to what the query's own tokens score


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer to a query, best first from rank 1."""

    rank: int
    id: str
    group: str
    score: float
    explanation: tuple[TokenPair, ...] = ()  # with explain: the largest contribution first
    columns: Mapping[str, Any] = field(default_factory=dict, hash=False)  # the reader's, as body, lat, lon

    @property
    def place(self) -> tuple[float, float] | None:
        """Latitude and longitude in degrees; None for an item without them."""
        return place_of(self.columns)


def place_of(columns: Mapping[str, Any]) -> tuple[float, float] | None:
    """The numbers `lat` and `lon` of an item's columns; None where one is missing or no number."""
    place = columns.get("lat"), columns.get("lon")
    if not all(isinstance(value, int | float) and value - value == 0 for value in place):  # finite
        return None
    return float(place[0] or 0), float(place[1] or 0)
