"""An opened version of an index and an encoder: an image goes in, hits come out. No Ray."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crater_ray.encoders import build_encoder, here
from crater_ray.errors import BadImage, IndexMismatch, QueryError
from crater_ray.index.fitted import Arrays
from crater_ray.index.snapshot import Snapshot
from crater_ray.index.store import store_at
from crater_ray.jobfile import told
from crater_ray.plugins import Reader, registry
from crater_ray.types import Hit, Side, TokenPair, Tokens, candidates_in

if TYPE_CHECKING:
    import pyarrow as pa

    from crater_ray.encode.encoder import Encoder, Rows
    from crater_ray.search.codecs import Codec
    from crater_ray.search.expand import Joined
    from crater_ray.search.shortlist import Shortlist

Array = np.ndarray[Any, Any]
BLOCK_ROWS = 4096  # images a block of the exact scan


class Index:
    """One pinned version of an index, searchable. Satisfies crater_ray.plugins.Index.

    With `segments`, only their rows: a searcher's share. Query images are encoded on `device`.
    Raises IndexMismatch when `root` is not an index or is newer than this package, DamagedIndex for a file
    that is missing, ConfigError for a device that is not here.
    """

    def __init__(
        self,
        root: str | Path,
        version: int | None = None,
        *,
        threads: int | None = None,
        segments: Collection[str] | None = None,
        device: str = "cpu",
    ) -> None:
        self.root, self.threads, self.device = Path(root), threads, here(device)
        self.snapshot = Snapshot(store_at(self.root), version, segments)
        self.snapshot.download()
        self.recipe = self.snapshot.recipe

    def __len__(self) -> int:
        return len(self.snapshot)

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
    def encoder(self) -> Encoder:
        """One image at a time: a query does not wait for a batch."""
        store = self.snapshot.store
        return build_encoder(store, self.recipe, threads=self.threads, batch=1, device=self.device)

    @cached_property
    def codec(self) -> Codec:
        from crater_ray.search.codecs import codec

        here, made = codec(self.recipe.codec), self.recipe.codec_version
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
    def _stage_one(self) -> list[tuple[Shortlist, Array, Array | None, Arrays | None]]:
        """Each segment's FAISS index, its rows' rows in the version, which are there (None: all), whitening.

        A row that was dropped is -1.
        """
        from crater_ray.search.shortlist import Shortlist
        from crater_ray.search.whitening import whiten

        opened = []
        for segment in self.snapshot.segments:
            rows = self.snapshot.segment_rows(segment)
            learnt = self.snapshot.fitted(segment)
            if segment.file is not None:
                there = rows >= 0
                keep = None if there.all() else there
                opened.append((Shortlist.load(segment.file, segment.m), rows, keep, learnt))
            else:  # Flat: the rows' own vectors are the index
                kept = rows[rows >= 0]
                vectors = self.snapshot.vectors(kept)
                compared = vectors if learnt is None else whiten(vectors, learnt)
                opened.append((Shortlist.build(compared, segment.factory, segment.seed), kept, None, learnt))
        return opened

    def warm(self) -> None:
        """Opens what a search reads, so that the first query does not wait for it."""
        _ = self.codec, self.snapshot.id_ranks, self.snapshot.groups, self.snapshot.scales
        for segment, *_ in self._stage_one:
            segment.warm()

    # one query

    def search(
        self,
        image: bytes | Array | None = None,
        *,
        id: str | None = None,
        top: int = 10,
        mode: str = "shortlist",
        candidates: int | None = None,
        expand: int = 0,
        explain: bool = False,
    ) -> list[Hit]:
        """The `top` best hits of one image (an encoded one, or (H, W, 3) uint8) or of an item of the index.

        An item of the index is not its own hit. `candidates`: images that mode shortlist reranks, CANDIDATES
        if left out. `expand`: so many first hits join the query, which is asked again. `explain` fills
        Hit.explanation.
        Raises QueryError for an image that cannot be used, an unknown id, a number below 1, or candidates in
        mode exact, which has none.
        """
        if (image is None) == (id is None):
            raise QueryError("a query is one image or one id")
        skip = None
        if id is not None:
            skip = self.row(id)
            vectors, tokens = self.stored(np.array([skip]))
            vectors, tokens = vectors[0], tokens[0]
        else:
            assert image is not None  # said above
            rows = self.encode(image)
            vectors, tokens = rows.vectors[0], rows.tokens[0]
        return self.answer(
            vectors,
            tokens,
            top=top,
            mode=mode,
            candidates=candidates,
            expand=expand,
            explain=explain,
            skip=skip,
        )

    def answer(
        self,
        vectors: Array,
        tokens: Array,
        *,
        top: int = 10,
        mode: str = "shortlist",
        candidates: int | None = None,
        expand: int = 0,
        explain: bool = False,
        skip: int | None = None,
        mask: Array | None = None,
    ) -> list[Hit]:
        """The hits of one encoded query: vectors (m, G), tokens (Q, D).

        `mask` (N,) bool says which rows may answer; `skip` is one that may not.
        """
        if top < 1 or (candidates is not None and candidates < 1):
            raise QueryError(f"top and candidates must be 1 or more, not {top} and {candidates}")
        if expand < 0:
            raise QueryError(f"expand must be 0 or more, not {expand}")
        try:
            deep = candidates_in(mode, candidates)
        except ValueError as error:
            raise QueryError(str(error)) from None
        if skip is not None:
            mask = np.ones(len(self), bool) if mask is None else mask.copy()
            mask[skip] = False
        rows, scores = self.rank(
            vectors[None],
            tokens[None],
            mode=mode,
            candidates=None if deep is None else max(deep, top),
            top=top,
            expand=expand,
            mask=mask,
        )[0]
        explanations = self.explain(tokens, rows) if explain else [()] * len(rows)
        # Arrow's: a million strings of Python's are 0.1 GB
        ids, groups = self.snapshot.ids, self.snapshot.groups
        return [
            Hit(rank, ids[int(row)].as_py(), groups[int(row)].as_py(), float(score), pairs)
            for rank, (row, score, pairs) in enumerate(zip(rows, scores, explanations, strict=True), 1)
        ]

    def encode(self, image: bytes | Array) -> Rows:
        """One query image's vectors (1, m, G) and tokens (1, Q, D).

        Raises QueryError for an image that cannot be used.
        """
        rows = self.encoder.rows(self._tokens(image), "query", 1)
        if rows.bad:
            raise QueryError(f"the query image cannot be used: {rows.bad[0]}")
        return rows

    def _tokens(self, image: bytes | Array) -> Tokens:
        return self.encoder.tokens(self.encoder.backbone.preprocess(self.pixels(image))[None])

    def pixels(self, image: bytes | Array) -> Array:
        """(H, W, 3) uint8 of a query image. Raises QueryError for one that cannot be used."""
        from crater_ray.images import pixels

        try:
            return pixels(image, self.recipe.max_pixels)
        except BadImage as error:
            raise QueryError(f"the query image cannot be used: {error.message}") from None

    def places(self, image: Array, side: Side) -> Array | None:
        """(k, 2) where each token of an image lies, x and y in 0..1; None where the aggregator cannot say."""
        found = self.encoder.places(self._tokens(image), side)
        return None if found is None else found[0]

    def explain(self, tokens: Array, rows: Array) -> list[tuple[TokenPair, ...]]:
        """For each row, the pairs of tokens whose contributions sum to its score, the largest first.

        Pairs are those of the recipe's scoring: none where it compares means of tokens.
        """
        from crater_ray.search.kernel import explain

        recipe = self.recipe
        codes, scales = self.snapshot.gather(rows)
        found = explain(
            tokens, codes, scales, codec=self.codec, k=recipe.k, dim=recipe.dim, scoring=recipe.scoring
        )
        return [
            tuple(TokenPair(*pair) for pair in zip(*(array.tolist() for array in one), strict=True))
            for one in found
        ]

    # many queries

    def rank(
        self,
        vectors: Array,
        tokens: Array,
        *,
        mode: str,
        candidates: int | None = None,
        top: int,
        expand: int = 0,
        without: Sequence[Array] | None = None,
        mask: Array | None = None,
        joined: Sequence[Joined] | None = None,
    ) -> list[tuple[Array, Array]]:
        """(rows, scores) of each query, best first, ties by id: vectors (B, m, G), tokens (B, Q, D).

        With `expand` each query is asked again, joined by so many of its first hits (search/expand.py); or by
        `joined`, as many for each. `without`: of each query the rows that may not answer it, such as its own.
        """
        from crater_ray.ranking import rank

        return rank(
            self,
            vectors,
            tokens,
            mode=mode,
            candidates=candidates,
            top=top,
            expand=expand,
            without=without,
            mask=mask,
            joined=joined,
        )

    def exact(self, tokens: Array) -> Array:
        """(B, N) float32 stage two of queries (B, Q, D) against every row."""
        from crater_ray.search.stages import exact

        recipe = self.recipe
        return exact(
            tokens,
            self.snapshot.blocks(BLOCK_ROWS),
            rows=len(self),
            codec=self.codec,
            k=recipe.k,
            dim=recipe.dim,
            scoring=recipe.scoring,
        )

    def first(self, vectors: Array, row: int) -> float:
        """What stage one scores one row by a query's vectors (m, G)."""
        from crater_ray.search.whitening import whiten

        best = -np.inf
        for segment, rows, _, learnt in self._stage_one:
            local = np.flatnonzero(rows == row)
            if len(local):
                asked = vectors if learnt is None else whiten(vectors[None], learnt)[0]
                best = max(best, float(segment.score(asked, local[:1])[0]))
        return best

    def shortlist(self, vectors: Array, count: int, mask: Array | None = None) -> tuple[Array, Array]:
        """Stage one over all segments: rows (B, count) int64 (-1: fewer), scores (B, count)."""
        from crater_ray.search.whitening import whiten

        found_rows, found_scores = [], []
        for segment, rows, there, learnt in self._stage_one:
            keep = there
            if mask is not None:
                keep = mask[rows] if there is None else there & mask[rows]  # -1 reads the last, and is masked
            asked = vectors if learnt is None else whiten(vectors, learnt)
            local, scores = segment.search(asked, count, keep)
            found_rows.append(np.where(local >= 0, rows[np.maximum(local, 0)], -1))
            found_scores.append(np.where(local >= 0, scores, -np.inf))
        if not found_rows:
            return np.full((len(vectors), count), -1), np.full((len(vectors), count), -np.inf, np.float32)
        if len(found_rows) == 1:
            return found_rows[0], found_scores[0]
        all_rows, all_scores = np.concatenate(found_rows, 1), np.concatenate(found_scores, 1)
        order = np.argsort(-all_scores, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(all_rows, order, 1), np.take_along_axis(all_scores, order, 1)

    def rerank(self, tokens: Array, rows: Array) -> Array:
        """Stage two: scores (B, S) float32 of queries (B, Q, D) against their rows (B, S); -inf where -1."""
        from crater_ray.search.stages import rerank

        recipe = self.recipe
        return rerank(
            tokens,
            rows,
            self.snapshot.gather,
            codec=self.codec,
            k=recipe.k,
            dim=recipe.dim,
            scoring=recipe.scoring,
        )

    def stored(self, rows: Array) -> tuple[Array, Array]:
        """The vectors (n, m, G) and decoded tokens (n, K, D) of rows of this index, to be used as queries."""
        codes, scales = self.snapshot.gather(rows)
        tokens = self.codec.decode(codes, scales, self.recipe.k, self.recipe.dim)
        return np.asarray(self.snapshot.vectors(rows), np.float32), tokens

    def score(self, pairs: Sequence[tuple[str, str]]) -> Array:
        """(len(pairs),) float32 late-interaction scores; the first of a pair is the query."""
        rows = np.array([[self.row(a), self.row(b)] for a, b in pairs], np.int64).reshape(-1, 2)
        scores = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), 256):
            block = rows[start : start + 256]
            _, tokens = self.stored(block[:, 0])
            scores[start : start + len(block)] = self.rerank(tokens, block[:, 1:])[:, 0]
        return scores

    # items

    def row(self, id: str) -> int:
        """Raises QueryError for an id that is not in the index."""
        return self.snapshot.row(id)

    def image(self, id: str) -> Array:
        """(H, W, 3) uint8, through the reader that listed it. Raises QueryError when that fails."""
        from crater_ray.images import pixels

        part, row = self.snapshot.part_of(self.row(id))
        reader = self._readers[part.entry.reader]
        uri = part.items(["uri"])["uri"][row].as_py()
        try:
            return pixels(reader.load(uri), self.recipe.max_pixels)
        except (BadImage, OSError) as error:
            raise QueryError(f"the image of {id!r} cannot be read: {error}") from None


def open_index(root: str | Path, version: int | None = None, *, device: str = "cpu") -> Index:
    """The index at `root`, its current version or the one named; query images are encoded on `device`."""
    return Index(root, version, device=device)
