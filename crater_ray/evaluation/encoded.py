"""A job's Tokens, encoded once by the ordinary job and read from its cache ever after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crater_ray.config import Job, RerankTable, ShortlistTable
from crater_ray.errors import IndexMismatch
from crater_ray.index.config import IndexConfig, find_config, read_config
from crater_ray.index.store import Store
from crater_ray.index.token_cache import CachedTokens, TokenCache, token_key
from crater_ray.jobs import index as index_job
from crater_ray.jobs.cluster import cluster
from crater_ray.jobs.fit import sampled
from crater_ray.jobs.part import cache_key
from crater_ray.plugins import PluginRef, Reader, registry
from crater_ray.types import Item, Side, Tokens, TokenShape

if TYPE_CHECKING:
    from collections.abc import Sequence

Array = np.ndarray[Any, Any]
SIDES: tuple[Side, ...] = ("gallery", "query")
BATCH = 32  # images whose tokens are in memory at a time


@dataclass(frozen=True, slots=True)
class Cached:
    """One side's items, those whose image could be used, and where their tokens lie."""

    items: list[Item]
    parts: list[CachedTokens]
    keys: tuple[str, ...]  # what the tokens depend on

    @property
    def shape(self) -> TokenShape:
        return self.parts[0].shape

    def sample(self, count: int) -> list[int]:
        """Places of the `count` items that a fit learns from: those of lowest hashed id."""
        chosen = {item.id for item in sampled(iter(self.items), count)}
        return [place for place, item in enumerate(self.items) if item.id in chosen]

    def tokens(self, wanted: Sequence[int] | Array | None = None) -> Iterator[tuple[Array, Tokens]]:
        """Places in `items` (n,), ascending, and their Tokens in float32; all, or those `wanted`.

        Raises DamagedIndex for a part that does not match its checksum.
        """
        from crater_ray.encode.encoder import tokens_of

        chosen = np.ones(len(self.items), np.bool_)
        if wanted is not None:
            chosen[:] = False
            chosen[np.asarray(wanted)] = True
        start = 0
        for part in self.parts:
            good = np.array([row not in part.bad for row in range(len(part))], np.bool_)
            stop = start + int(good.sum())
            if chosen[start:stop].any():
                place = start + np.cumsum(good) - 1  # of each row
                for rows in part.batches(BATCH):
                    span = slice(rows.first, rows.first + len(rows.ids))
                    take = np.flatnonzero(good[span] & chosen[place[span]])
                    if len(take):
                        found = {name: array[take] for name, array in rows.arrays.items()}
                        yield place[span][take], tokens_of(found, part.shape.grid)
            start = stop


def encoded(job: Job, *, quiet: bool = False) -> tuple[Cached, Cached]:
    """Gallery and queries of a job, encoded where they are not yet; the cache is <out>/tokens by default.

    Raises as the index job, and IndexMismatch when the cache has lost what the index says is done.
    """
    cache = job.backbone.cache or job.out / "tokens"
    job = job.model_copy(update={"backbone": job.backbone.model_copy(update={"cache": cache})})
    pooled = {"shortlist": ShortlistTable(name="mean"), "rerank": RerankTable(name="mean")}
    beside = job.model_copy(update={**pooled, "out": job.out / "bench" / "encoded"})
    found = _read(job) if _current(job) else None
    for one in (job, beside):  # beside it, where the index was there before its cache
        if found is None:
            with cluster(job.cluster):
                for side in SIDES:
                    index_job.run(one, side=side, quiet=quiet)
            found = _read(one)
    if found is None:
        raise IndexMismatch(
            f"{cache} has lost tokens of parts that {job.out} holds; delete {job.out} and run again"
        )
    return found


def token_keys(job: Job, reader: PluginRef, backbone_digest: str) -> list[str]:
    """Of each part that `reader` lists, a key of its items and of all that their tokens depend on."""
    built: Reader = registry().build(reader)
    return [
        token_key(
            list(built.read(part)),
            reader=registry().chosen(reader),
            backbone=job.backbone_ref(),
            backbone_digest=backbone_digest,
            precision=job.backbone.precision,
            batch=job.batch(),
            max_pixels=job.index.max_pixels,
        )
        for part in built.parts()
    ]


def _current(job: Job) -> bool:
    """Whether the index at <out> is of the job's backbone, so that there is nothing to encode."""
    for side in SIDES:
        config = find_config(_where(job, side)[0])
        table, ref = job.backbone, job.backbone_ref()
        if (
            config is None
            or (config.precision, config.batch, config.max_pixels, registry().current(config.backbone))
            != (table.precision, index_job.batch_of(job, side), job.index.max_pixels, ref)
            or config.backbone_digest != registry().build(ref).digest
        ):
            return False
    return True


def _read(job: Job) -> tuple[Cached, Cached] | None:
    """Both sides; None when a part is not in the cache."""
    cache = TokenCache(job.backbone.cache or job.out / "tokens")
    found = []
    for side in SIDES:
        root, reader = _where(job, side)
        part = _parts(read_config(root), reader, cache)
        if part is None:
            return None
        found.append(part)
    return found[0], found[1]


def _where(job: Job, side: Side) -> tuple[Store, PluginRef]:
    return index_job.place_of(job, side), job.reader_ref() if side == "gallery" else job.queries_ref()


def _parts(config: IndexConfig, ref: PluginRef, cache: TokenCache) -> Cached | None:
    reader: Reader = registry().build(ref)
    items: list[Item] = []
    parts: list[CachedTokens] = []
    keys: list[str] = []
    for name in reader.parts():
        listed = list(reader.read(name))
        if not listed:
            continue
        key = cache_key(config, ref, listed)
        part = cache.find(key)
        if part is None:
            return None
        items += [item for row, item in enumerate(listed) if row not in part.bad]
        parts.append(part)
        keys.append(key)
    return Cached(items, parts, tuple(keys)) if parts else None
