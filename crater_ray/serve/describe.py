"""What GET /v1/index says."""

from __future__ import annotations

from collections.abc import Sequence

from crater_ray.index.store import store_at
from crater_ray.index.versions import numbers
from crater_ray.serve.basemap import Map
from crater_ray.serve.models import Grid, IndexConfig, IndexReply, Limits, Shards
from crater_ray.serve.off_loop import off_loop
from crater_ray.serve.service import Service


async def index_reply(service: Service, basemaps: Sequence[Map], prefix: str) -> IndexReply:
    """`prefix` stands before the service's own paths. Raises NoAnswer when a shard does not answer."""
    pin, summary = await service.summary()
    ready = await service.ready()
    table, config, version = (
        service.replicas.table,
        service.config,
        await off_loop(service.described, pin.version),
    )
    rows, columns = config.grid
    return IndexReply(
        name=service.name,
        version=pin.version,
        held=list(pin.held),
        published=await off_loop(numbers, store_at(service.root)),
        items=summary.items,
        parts=len(version.parts),
        segments=len(version.segments),
        shards=ready.shards or Shards(answered=0, total=len(service.replicas.searchers)),
        columns=summary.columns,
        config=IndexConfig(
            backbone=config.backbone.name,
            shortlist=config.shortlist.name,
            rerank=config.rerank.name,
            k=config.k,
            dim=config.dim,
            codec=config.codec,
            scoring=config.scoring,
            grid=Grid(rows=rows, columns=columns),
        ),
        limits=Limits(
            bytes=table.max_bytes,
            pixels=min(table.max_pixels, config.max_pixels),
            timeout_s=table.timeout_s,
        ),
        basemaps=[one.told.model_copy(update={"url": prefix + one.told.url}) for one in basemaps],
    )
