"""What each kind of plugin promises. `crater_ray.testing` checks a plugin against these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Unpack, runtime_checkable

from crater_ray.types import Hit, Item, Side, Tokens, TokenShape

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.dataset as ds
    from torch import Tensor

    from crater_ray.errors import BadImage
    from crater_ray.request import SearchOptions, SearchRequest


@runtime_checkable
class Reader(Protocol):
    """Lists items by part and loads their pixels."""

    @property
    def columns(self) -> pa.Schema:
        """Its own columns, typed once (body, lat, lon, diameter_km …); may be empty."""

    def parts(self) -> list[str]:
        """File-name safe names, by content, never by rank."""

    def read(self, part: str) -> Iterator[Item]:
        """Plain data, no pixels; the same on every call."""

    def load(self, uri: str) -> bytes | np.ndarray[Any, Any]:
        """An encoded image, or (H, W) or (H, W, 3) uint8. Raises BadImage or OSError. Thread-safe."""


@runtime_checkable
class LoadsMany(Protocol):
    """A Reader whose spec says `loads_many`: several images cost less than one after another."""

    def load_many(self, uris: Sequence[str]) -> Sequence[bytes | np.ndarray[Any, Any] | BadImage]:
        """What `load` gives of each, in their order, a BadImage in the place of one that cannot be used.

        Raises OSError where the storage fails, and is then asked again. Thread-safe.
        """


class Ask(Protocol):
    """What an `Interview` asks the user by."""

    def __call__(self, name: str, proposal: Any = None) -> Any:
        """The answer to the question about that option, checked, as plain data; None where it is left out.

        proposal: the answer that is offered, in place of the question's own or the option's default.
        """

    def say(self, text: str) -> None:
        """Shows a line, and keeps it as a comment of the job: what was found, what is ambiguous."""


class Interview(Protocol):
    """What a spec's `interview` names: asks the spec's questions, in the order that fits what it finds."""

    def __call__(self, ask: Ask) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """The options of [reader], None being left out, and of [queries] beside them: None for none."""


@runtime_checkable
class Cuts(Protocol):
    """A Reader whose spec says `cuts`: it has a raster, and cuts a view at any place of it."""

    def cut(
        self, lat: float, lon: float, diameter_km: float, body: str | None
    ) -> bytes | np.ndarray[Any, Any]:
        """What `load` would give of the gallery's view of a crater there. Thread-safe.

        Degrees, planetocentric and east; `body` in small letters, None where the index names none.
        Raises BadImage where its raster has no such view, OSError.
        """


@runtime_checkable
class Backbone(Protocol):
    """Pixels to Tokens. An nn.Module is moved to the device that computes."""

    @property
    def shape(self) -> TokenShape: ...

    @property
    def digest(self) -> str:
        """Of the current weights; equal on every node."""

    def preprocess(self, image: np.ndarray[Any, Any]) -> Tensor:
        """(H, W, 3) uint8 -> (3, S, S) float32. Thread-safe."""

    def __call__(self, images: Tensor) -> Tokens:
        """(N, 3, S, S) -> Tokens. Patches are not normalised; encode adds inference_mode and autocast.

        `Tokens.valid` says which patches stand for something, where not all do.
        """


@runtime_checkable
class Aggregator(Protocol):
    """Tokens to k unit vectors an image; built by factory(shape, **options)."""

    @property
    def k(self) -> int:
        """Vectors an image on the gallery side; those of a query too, unless it is `Asymmetric`."""

    @property
    def dim(self) -> int: ...

    def __call__(self, tokens: Tokens, side: Side) -> Tensor:
        """(N, k, dim) float32, unit rows; zeros where there is no token, of which `Tokens.present` tells."""


@runtime_checkable
class Asymmetric(Protocol):
    """An Aggregator whose spec says `asymmetric`: a query has another number of vectors."""

    @property
    def query_k(self) -> int: ...


@runtime_checkable
class Fitted(Protocol):
    """An Aggregator whose spec says `fits`: it learns from a sample before the first part is encoded."""

    def fit(self, sample: Iterator[Tokens], seed: int) -> dict[str, np.ndarray[Any, Any]]: ...

    def load(self, state: dict[str, np.ndarray[Any, Any]]) -> None: ...


@runtime_checkable
class Located(Protocol):
    """An Aggregator whose spec says `locates`: each vector stands for a patch, and matches can be drawn."""

    def locate(self, tokens: Tokens, side: Side) -> Tensor | None:
        """(N, k) int64, indices into the T patch tokens; None where its options give no such vectors."""


@runtime_checkable
class Index(Protocol):
    """An opened index as consumers see it: read-only, one pinned version."""

    def __len__(self) -> int: ...

    @property
    def ids(self) -> Sequence[str]:
        """Row order."""

    def items(self, columns: Iterable[str] | None = None) -> pa.Table:
        """id, group, uri, stamp and the reader's columns, in row order."""

    def vectors(self) -> np.ndarray[Any, Any]:
        """(N, m, G) float16, shortlist vectors in row order."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray[Any, Any]:
        """(len(pairs),) float32 late-interaction scores; the first of a pair is the query."""

    def search(
        self,
        image: bytes | np.ndarray[Any, Any] | SearchRequest | None = None,
        *,
        id: str | None = None,
        **options: Unpack[SearchOptions],
    ) -> list[Hit]:
        """The best hits of a SearchRequest, or of an image or an item under its options."""

    def image(self, id: str) -> np.ndarray[Any, Any]:
        """(H, W, 3) uint8, through the reader that listed it."""


@runtime_checkable
class Consumer(Protocol):
    """Uses an index and its neighbour table (query_id, rank, id, score); returns the path it wrote.

    The table costs a search for every item. A consumer whose spec says `reads_neighbours=False` gets an empty
    one.
    """

    def __call__(self, index: Index, neighbours: ds.Dataset, out: Path) -> Path: ...
