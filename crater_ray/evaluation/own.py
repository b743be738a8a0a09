"""Images that are asked and lie in the gallery too: none of them is an answer to itself.

Two images are one where their pixels are, whatever their ids. The pixels of two are compared where their
shortlist vectors hardly differ, or where they have one id: two readers may give it to two images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import xxhash

from crater_ray.config import Job
from crater_ray.errors import ConfigError, QueryError
from crater_ray.evaluation.encoded import Cached
from crater_ray.retrieve import Index

Array = np.ndarray[Any, Any]
NEAR = 0.995  # cosine of shortlist vectors from which pixels are compared; those of one image are above it
FIRST = 16  # nearest images looked at; more where all of them are as near
REMEMBERED = 100_000  # digests


@dataclass(frozen=True, slots=True)
class Own:
    """What of the gallery is the query itself."""

    rows: Sequence[Array]  # of each query (n,) int64
    namesakes: int  # queries whose id the gallery gives to another image, which stays

    @property
    def queries(self) -> int:
        """That have themselves in the gallery."""
        return sum(len(rows) > 0 for rows in self.rows)

    @property
    def images(self) -> int:
        return sum(map(len, self.rows))


def own(gallery: Index, queries: Index, together: int = 64) -> Own:
    """The rows of the gallery that are each query itself, by id and by pixels.

    With one reader for both, an id is an image. Else an image of the query's id that cannot be read is taken
    for the query, and one of another id for another image.
    """
    same_reader = gallery.snapshot.version.readers == queries.snapshot.version.readers
    there = gallery.snapshot.rows(queries.ids)

    @lru_cache(REMEMBERED)
    def digest(id: str, asked: bool) -> str | None:
        try:
            image = (queries if asked else gallery).image(id)
        except QueryError:
            return None
        return xxhash.xxh3_128_hexdigest(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes())

    rows: list[Array] = []
    namesakes = 0
    for start in range(0, len(queries), together):
        block = np.arange(start, min(start + together, len(queries)))
        for row, near in zip(block.tolist(), _near(gallery, _vectors(queries, block)), strict=True):
            id, namesake = queries.ids[row], int(there[row])
            found: set[int] = set()
            if namesake >= 0 and same_reader:
                found.add(namesake)
            for other in {*near.tolist(), *([namesake] if namesake >= 0 else [])} - found:
                mine, theirs = digest(id, True), digest(gallery.ids[other], False)
                unknown = mine is None or theirs is None
                if (other == namesake and unknown) or (mine == theirs and not unknown):
                    found.add(other)
            namesakes += namesake >= 0 and namesake not in found
            rows.append(np.array(sorted(found), np.int64))
    return Own(rows, namesakes)


def nothing_relevant(job: Job, own: int, queries: int) -> ConfigError:
    """The error of a job in which no query has a relevant image; `own` of them have only themselves."""
    if own:
        return ConfigError(
            f"no query of {job.path.name} has a relevant image in {job.out} but itself: {own} of "
            f"{queries} queries are in the gallery; name another reader in [queries], "
            "or give several images a group"
        )
    return ConfigError(
        f"no query of {job.path.name} has a relevant image in {job.out}: the groups of its two readers "
        "do not meet; are they of the same catalogue?"
    )


def _vectors(index: Index, rows: Array) -> Array:
    """(n, m, G) float32 unit rows, but for vectors of zeros."""
    vectors = np.asarray(index.snapshot.vectors(rows), np.float32)
    unit: Array = vectors / np.maximum(np.linalg.norm(vectors, axis=2, keepdims=True), 1e-12)
    return unit


def _near(gallery: Index, vectors: Array) -> list[Array]:
    """Of each query (B, m, G) the rows whose vectors hardly differ from it."""
    count, total = FIRST, len(gallery)
    while True:
        found, _ = gallery.local.shard.shortlist(vectors, min(count, total))
        near = []
        for query, rows in zip(vectors, found, strict=True):
            rows = rows[rows >= 0]
            cosine = np.einsum("md,nkd->nmk", query, _vectors(gallery, rows)).max((1, 2), initial=-1)
            near.append(rows[cosine >= NEAR])
        if count >= total or max(map(len, near), default=0) < count:
            return near
        count *= 4


def own_places(gallery: Cached, queries: Cached) -> tuple[Array, ...]:
    """Of each query's place the places in the gallery that are itself: by the backbone's tokens, which are of
    the same bytes where the pixels are. Raises DamagedIndex for a damaged cache.
    """
    places: dict[bytes, list[int]] = {}
    for at, digest in _digests(gallery):
        places.setdefault(digest, []).append(at)
    rows = [np.empty(0, np.int64)] * len(queries.items)
    for at, digest in _digests(queries):
        rows[at] = np.array(places.get(digest, []), np.int64)
    return tuple(rows) if any(map(len, rows)) else ()


def _digests(cached: Cached) -> Iterator[tuple[int, bytes]]:
    """Places and what their images' tokens hash to."""
    for where, tokens in cached.tokens():
        for at, patches in zip(where.tolist(), tokens.patches.numpy(), strict=True):
            yield at, xxhash.xxh3_128_digest(patches.tobytes())
