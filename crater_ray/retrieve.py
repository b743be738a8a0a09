"""An opened version of an index, and its search in this process: an image goes in, hits come out. No Ray."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import pyarrow as pa

from crater_ray.bodies import body_name
from crater_ray.encoders import build_encoder, here
from crater_ray.errors import BadImage, IndexMismatch, QueryError
from crater_ray.filters import BODY, own_columns
from crater_ray.filters import mask as filter_mask
from crater_ray.hits import Hits
from crater_ray.index.info import facts
from crater_ray.index.snapshot import Snapshot
from crater_ray.index.store import store_at
from crater_ray.jobfile import told
from crater_ray.pipeline import SearchPipeline, run_inline
from crater_ray.plugins import Cuts, Reader, registry
from crater_ray.request import Filter, Place, SearchOptions, SearchRequest
from crater_ray.types import Hit, Side, TokenPair

if TYPE_CHECKING:
    from crater_ray.encode.encoder import Encoder, Rows
    from crater_ray.search.codecs import Codec
    from crater_ray.shard import Queries, Ranking, Shard

Array = np.ndarray[Any, Any]


class Index:
    """One pinned version of an index, as data. Satisfies crater_ray.plugins.Index.

    With `segments`, only their rows: a searcher's share. Query images are encoded on `device`. On object
    storage all of it is copied here first; without `download` what a shortlist needs, and candidates are read
    by ranges: less for a few queries, more for many.
    Raises IndexMismatch when `root` is not an index or is newer than this package, DamagedIndex for a file
    that is missing, ConfigError for a device that is not here, TypeError for
    another type of root or version.
    """

    def __init__(
        self,
        root: str | Path,
        version: int | None = None,
        *,
        threads: int | None = None,
        segments: Collection[str] | None = None,
        device: str = "cpu",
        download: bool = True,
    ) -> None:
        if not isinstance(root, str | Path):
            raise TypeError(f"root is the path of an index, not {root!r}")
        if version is not None and (isinstance(version, bool) or not isinstance(version, int)):
            raise TypeError(f"version is a whole number, not {version!r}")
        self.root, self.threads, self.device = Path(root), threads, here(device)
        self.snapshot = Snapshot(store_at(self.root), version, segments)
        self.snapshot.download(tokens=download)
        self.config = self.snapshot.config

    def __len__(self) -> int:
        return len(self.snapshot)

    def __repr__(self) -> str:
        return "\n".join(
            [f"Index {told(self.root)}", *(f"  {name:<10} {fact}" for name, fact in facts(self.snapshot))]
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(fact)}</td></tr>" for name, fact in facts(self.snapshot)
        )
        return f"<p>Index {escape(told(self.root))}</p><table><tbody>{rows}</tbody></table>"

    @cached_property
    def ids(self) -> list[str]:
        """Row order."""
        return list(self.snapshot.ids.to_pylist())

    def items(self, columns: Iterable[str] | None = None) -> pa.Table:
        """id, group, uri, stamp and the reader's columns, in row order; or only `columns`."""
        return self.snapshot.items(columns)

    def vectors(self) -> Array:
        """(N, m, G) float16, in row order."""
        return self.snapshot.vectors()

    @cached_property
    def groups(self) -> list[str]:
        """Row order."""
        return list(self.snapshot.groups.to_pylist())

    @cached_property
    def codec(self) -> Codec:
        from crater_ray.search.codecs import codec

        here, made = codec(self.config.codec), self.config.codec_version
        if here.algorithm_version != made:
            raise IndexMismatch(
                f"{told(self.root)} keeps its tokens by {here.name} of algorithm version {made}, and here "
                f"is {here.algorithm_version}; install the release that made it, or index again"
            )
        return here

    @cached_property
    def _readers(self) -> list[Reader]:
        return [registry().build(registry().current(ref)) for ref in self.snapshot.version.readers]

    @cached_property
    def local(self) -> LocalSearch:
        """What searches it in this process."""
        return LocalSearch(self)

    def search(
        self,
        image: bytes | Array | SearchRequest | None = None,
        *,
        id: str | None = None,
        place: Place | None = None,
        **options: Unpack[SearchOptions],
    ) -> Hits:
        """The best hits of one image (encoded, or (H, W, 3) uint8), item or place, or of a SearchRequest.

        Options are the fields of SearchRequest. Raises QueryError for one out of bounds, an image that cannot
        be used, an unknown id or column.
        """
        if unknown := sorted(options.keys() - SearchOptions.__annotations__.keys()):
            close = get_close_matches(unknown[0], SearchOptions.__annotations__, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            known = ", ".join(SearchOptions.__annotations__)
            raise QueryError(f"a search has no option {unknown[0]!r}; {hint}known: {known}")
        request = image if isinstance(image, SearchRequest) else SearchRequest(image, id, place, **options)
        return Hits(self.local.search(request), self, request)

    def score(self, pairs: Sequence[tuple[str, str]]) -> Array:
        """(len(pairs),) float32 late-interaction scores; the first of a pair is the query."""
        rows = np.array([[self.row(a), self.row(b)] for a, b in pairs], np.int64).reshape(-1, 2)
        scores = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), 256):
            block = rows[start : start + 256]
            _, tokens = self.stored(block[:, 0])
            scores[start : start + len(block)] = self.local.shard.rerank(tokens, block[:, 1:])[:, 0]
        return scores

    def stored(self, rows: Array) -> tuple[Array, Array]:
        """The vectors (n, m, G) and decoded tokens (n, K, D) of rows of this index, to be used as queries."""
        codes, scales = self.snapshot.gather(rows)
        tokens = self.codec.decode(codes, scales, self.config.k, self.config.dim)
        return np.asarray(self.snapshot.vectors(rows), np.float32), tokens

    # items

    def row(self, id: str) -> int:
        """Raises QueryError for an id that is not in the index."""
        return self.snapshot.row(id)

    def pixels(self, image: bytes | Array, crop: tuple[int, int, int, int] | None = None) -> Array:
        """(H, W, 3) uint8 of a query image, or of its window `crop`: x, y, width, height in pixels.

        Raises QueryError for one that cannot be used.
        """
        from crater_ray.images import pixels

        try:
            return pixels(image, self.config.max_pixels, crop)
        except BadImage as error:
            raise QueryError(f"the query image cannot be used: {error.message}") from None

    def cut(self, place: Place) -> Array:
        """(H, W, 3) uint8 of a place, by the first of the readers that cuts a view there.

        Raises QueryError where no reader cuts, none has such a view, and for a place that must name a body.
        """
        from crater_ray.images import pixels

        cutting = [ref for ref in self.snapshot.version.readers if registry().spec(ref).cuts]
        if not cutting:
            names = ", ".join(dict.fromkeys(ref.name for ref in self.snapshot.version.readers))
            raise QueryError(f"no place can be cut: reader {names} has no raster; ask by an image or an id")
        body, bodies = body_name(place.body), self.local.bodies()
        if body is None and len(bodies) > 1:
            raise QueryError(f"place {place.in_words()} may be on {', '.join(bodies)}: add a body to it")
        body = body or next(iter(bodies), None)
        reasons: dict[str, None] = {}
        for ref, reader in zip(self.snapshot.version.readers, self._readers, strict=True):
            if ref in cutting:
                assert isinstance(reader, Cuts)  # as its spec says, which the registry has checked
                try:
                    return pixels(reader.cut(place.lat, place.lon, place.km, body), self.config.max_pixels)
                except (BadImage, OSError) as error:
                    reasons[str(error)] = None
        raise QueryError(f"place {place.in_words()} cannot be cut: {'; '.join(reasons)}")

    def image(self, id: str) -> Array:
        """(H, W, 3) uint8, through the reader that listed it. Raises QueryError when that fails."""
        from crater_ray.images import pixels

        part, row = self.snapshot.part_of(self.row(id))
        reader = self._readers[part.entry.reader]
        uri = part.items(["uri"])["uri"][row].as_py()
        try:
            return pixels(reader.load(uri), self.config.max_pixels)
        except (BadImage, OSError) as error:
            raise QueryError(f"the image of {id!r} cannot be read: {error}") from None


class LocalSearch:
    """The source of a SearchPipeline that is one index of this process, and the encoder of its queries."""

    def __init__(self, index: Index) -> None:
        self.index = index

    @cached_property
    def shard(self) -> Shard:
        from crater_ray.shard import Shard

        return Shard(self.index)

    @cached_property
    def encoder(self) -> Encoder:
        """One image at a time: a query does not wait for a batch."""
        index = self.index
        store = index.snapshot.store
        return build_encoder(store, index.config, threads=index.threads, batch=1, device=index.device)

    @cached_property
    def _items(self) -> pa.Table:
        """What filters and hits read: all columns but the reader's own affair."""
        snapshot = self.index.snapshot
        own = snapshot.items(own_columns(snapshot.columns)).combine_chunks()
        named = dict(zip(own.column_names, own.columns, strict=True))
        return pa.table({"id": snapshot.ids, "group": snapshot.groups, **named})

    @property
    def schema(self) -> pa.Schema:
        """The reader's columns, typed."""
        return self._items.select(own_columns(self._items.column_names)).schema

    def bodies(self, filters: Sequence[Filter] = ()) -> list[str]:
        """In small letters, of column `body` as far as filters over it let through; [] without the column."""
        if BODY not in self._items.column_names:
            return []
        named = self._items.select([BODY]).group_by(BODY).aggregate([])
        passing = filter_mask(named, [one for one in filters if one.column == BODY], None)
        found = (named if passing is None else named.filter(pa.array(passing))).column(BODY).to_pylist()
        return sorted({body for one in found if (body := body_name(one)) is not None})

    def columns(self, rows: Array) -> list[dict[str, Any]]:
        """The reader's columns of those rows; None for a number that is none."""
        own = self._items.select(own_columns(self._items.column_names))
        if not own.column_names:
            return [{} for _ in rows]
        found: list[dict[str, Any]] = own.take(pa.array(rows.tolist(), pa.int64())).to_pylist()
        return [{name: None if value != value else value for name, value in one.items()} for one in found]

    def search(self, request: SearchRequest) -> list[Hit]:
        """The hits of the request's image or id. Raises QueryError as `Index.search`."""
        _, _, hits = run_inline(SearchPipeline(self).search(request))
        return hits

    def rank(self, queries: Queries, request: SearchRequest) -> list[Ranking]:
        """The hits of each query of a batch, as rows and scores. Filters are those of the queries' mask."""
        return run_inline(SearchPipeline(self).rank(queries, request))

    def answer(self, queries: Queries, request: SearchRequest) -> list[Hit]:
        """The hits of one encoded query."""
        (ranking,) = self.rank(queries, request)
        return self._hits(ranking, queries.tokens[0] if request.explain else None)

    def encode(self, image: bytes | Array) -> Rows:
        """One query image's vectors (1, m, G) and tokens (1, Q, D).

        Raises QueryError for an image that cannot be used.
        """
        try:
            return self.encoder.encode_one(image, "query")
        except BadImage as error:
            raise QueryError(f"the query image cannot be used: {error.message}") from None

    def places(self, image: Array, side: Side) -> Array | None:
        """(k, 2) where each token of an image lies, x and y in 0..1; None where the aggregator cannot say."""
        found = self.encoder.places(self.encoder.tokens_one(image), side)
        return None if found is None else found[0]

    def _hits(self, ranking: Ranking, tokens: Array | None) -> list[Hit]:
        """With the query's tokens (Q, D) each has its explanation."""
        rows, nothing = ranking.rows, [()] * len(ranking)
        explanations: Sequence[tuple[TokenPair, ...]] = (
            nothing if tokens is None else self.shard.explain(tokens, rows)
        )
        # Arrow's: a million strings of Python's are 0.1 GB
        ids, groups = self.index.snapshot.ids, self.index.snapshot.groups
        return [
            Hit(rank, ids[int(row)].as_py(), groups[int(row)].as_py(), float(score), explanation, columns)
            for rank, (row, score, explanation, columns) in enumerate(
                zip(rows, ranking.scores, explanations, self.columns(rows), strict=True), 1
            )
        ]

    # the source of the pipeline

    async def encode_query(self, request: SearchRequest) -> Queries:
        from crater_ray.shard import Queries

        number = self.index.snapshot.version.number
        if request.version not in (None, number):
            raise QueryError(f"version {request.version} is asked for, and version {number} is open")
        mask = self.mask(request)
        if request.image is not None:
            rows = self.encode(request.image)
            return Queries(rows.vectors, rows.tokens, mask=mask)
        if request.place is not None:
            rows = self.encode(self.index.cut(request.place))
            return Queries(rows.vectors, rows.tokens, mask=mask)
        if request.id is None:
            raise QueryError("a query is one image or one id or one place")
        own = self.index.row(request.id)
        mask = np.ones(len(self.index), bool) if mask is None else mask
        mask[own] = False
        return Queries(*self.index.stored(np.array([own])), mask=mask)

    def mask(self, request: SearchRequest) -> Array | None:
        """(N,) bool, which rows pass the request's filters, box and near; None: all. Raises QueryError."""
        if not request.narrowed:
            return None
        return filter_mask(self._items, request.filters, request.box, request.near)

    async def rank_queries(self, queries: Queries, request: SearchRequest) -> list[Ranking]:
        return self.shard.rank(queries, request)

    async def join_hits(
        self, queries: Queries, rankings: Sequence[Ranking], places: Sequence[int]
    ) -> Queries:
        return queries.expanded(places, [self.shard.stored(rankings[place].rows) for place in places])

    async def describe_hits(self, query: Queries, ranking: Ranking, request: SearchRequest) -> list[Hit]:
        return self._hits(ranking, query.tokens[0] if request.explain else None)


def open_index(
    root: str | Path, version: int | None = None, *, device: str = "cpu", download: bool = True
) -> Index:
    """The index at `root`, its current version or the one named; query images are encoded on `device`.

    On object storage all of it is copied here first; without `download` only what a few queries need.
    """
    return Index(root, version, device=device, download=download)
