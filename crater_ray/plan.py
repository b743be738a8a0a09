"""What an index will cost before it is built: bytes by kind of file, memory, hours. Arithmetic, no Ray."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from crater_ray.config import Job
from crater_ray.errors import ConfigError, ReaderError
from crater_ray.index.config import find_config
from crater_ray.index.parts import CODES, ITEMS, SCALES, VECTORS
from crater_ray.index.snapshot import Snapshot
from crater_ray.index.store import store_at
from crater_ray.index.versions import check_ids
from crater_ray.index.writer import items_file, items_schema, items_table
from crater_ray.jobs.segment import MOST_ROWS
from crater_ray.plugins import Reader, registry

IMAGES_PER_SECOND = 20.0  # of one encoder: DINOv2 ViT-S/14 on two CPU cores (docs/benchmarks/encoding.md)
READ = 512  # parts of which every item is listed
PART = 1000  # bytes of a part's JSON
ROW = 160  # bytes of an item in memory
PROCESS = 450_000_000  # bytes of a searcher without items


@dataclass(frozen=True, slots=True)
class Shape:
    """What an index keeps of an image: m shortlist vectors of `dim`, bytes of codes, float32 scales."""

    m: int
    dim: int
    code_bytes: int
    scales: int


@dataclass(frozen=True, slots=True)
class Listing:
    """What there is to index; `views` is an estimate unless `counted`."""

    views: int
    parts: int
    item_bytes: float  # of items.parquet, a view
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes on disk, unless they are called memory. A node serves its share of the index."""

    views: int
    counted: bool
    parts: int
    files: dict[str, int]  # kind of file -> bytes
    encoder_hours: float
    encoders: int
    nodes: int
    searcher_memory: int  # of one node
    page_cache: int  # of one node, so that no query reads the disk
    factory: str  # of FAISS

    def as_dict(self) -> dict[str, Any]:
        size, hours = sum(self.files.values()), self.encoder_hours / self.encoders
        return {**asdict(self), "bytes": size, "bytes_per_view": size / max(self.views, 1), "hours": hours}

    def as_text(self) -> str:
        told = self.as_dict()
        sizes = {**self.files, "all": told["bytes"]}
        disk, memory, cache = (
            f"{size / 1e9:,.2f} GB"
            for size in (told["bytes"] / self.nodes, self.searcher_memory, self.page_cache)
        )
        return "\n".join(
            [
                f"{'' if self.counted else 'about '}{self.views:,} views in {self.parts:,} parts",
                *(f"{name:<16}{size / 1e6:>16,.1f} MB" for name, size in sizes.items()),
                f"{told['bytes_per_view']:,.0f} bytes a view; the shortlist is {self.factory}",
                f"{_time(told['hours'])} on {self.encoders} encoder{'s' if self.encoders != 1 else ''}",
                f"{self.nodes} node{'s, each' if self.nodes != 1 else ''} with {disk} of disk, "
                f"{memory} of memory, {cache} of page cache",
            ]
        )


def _time(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.1f} h"
    return f"{hours * 60:.0f} min" if hours >= 1 / 60 else "less than 1 min"


def run(
    job: Job,
    *,
    views: int | None = None,
    like: Path | None = None,
    images_per_second: float = IMAGES_PER_SECOND,
    encoders: int | None = None,
    nodes: int | None = None,
) -> Cost:
    """The cost of a job. The reader lists its items (`listed`), and its objects are built here.

    With `like`, an index of the same index config, nothing of the job's is read or built. Raises ConfigError
    for `like` of another, and what building and listing raise.
    """
    shape = shape_of(job, like)
    listing = listed(registry().build(job.reader_ref())) if like is None else like_index(like)
    factory, whiten = job.shortlist.index, job.whiten()
    encoders, nodes = encoders or job.cluster.encoders, nodes or job.serve.shards
    return estimate(
        shape, listing, views or listing.views, factory, whiten, images_per_second, encoders, nodes
    )


def estimate(
    shape: Shape,
    listing: Listing,
    views: int,
    factory: str = "auto",
    whiten: bool = True,
    images_per_second: float = IMAGES_PER_SECOND,
    encoders: int = 1,
    nodes: int = 1,
) -> Cost:
    """The arithmetic. `views` scales what was listed: parts keep their size.

    Raises ConfigError for a factory that is none of FAISS's.
    """
    from crater_ray.search.shortlist import FLAT, Shortlist, chosen

    parts, vectors = max(1, round(listing.parts * views / max(listing.views, 1))), views * shape.m
    factory = chosen(factory, vectors)
    try:
        Shortlist.learn(np.empty((0, shape.m, shape.dim), np.float32), factory)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    lists, links = (re.search(rf"{kind}(\d+)", factory) for kind in ("IVF", "HNSW"))
    centroids = int(lists[1]) * (4 * shape.dim + 8) if lists else 0
    each = (
        (1 if "SQ8" in factory else 4) * shape.dim + (8 if lists else 0) + (8 * int(links[1]) if links else 0)
    )
    segments = max(nodes, -(-views // MOST_ROWS))
    faiss = 0 if factory == FLAT else segments * centroids + vectors * each  # Flat reads vectors.npy
    files = {
        CODES: views * shape.code_bytes,
        VECTORS: 2 * vectors * shape.dim,
        SCALES: 4 * views * shape.scales,
        ITEMS: round(views * listing.item_bytes),
        "shortlist.faiss": faiss,
        "fitted": centroids + (4 * shape.dim**2 if whiten else 0),
        "JSON": PART * parts,
    }
    mapped = faiss if lists else 0  # its lists are read from the file, as codes are
    memory = PROCESS + (ROW * views + (0 if lists else vectors * each)) // nodes
    hours, counted = views / images_per_second / 3600, listing.counted or views != listing.views
    cache = (files[CODES] + mapped) // nodes
    return Cost(views, counted, parts, files, hours, encoders, nodes, memory, cache, factory)


def shape_of(job: Job, like: Path | None = None) -> Shape:
    """Of an index that is there, or of the job's own objects. Raises ConfigError for another index config."""
    from crater_ray.search.codecs import codec

    config = find_config(store_at(like or job.out))
    asked = (job.backbone.name, job.shortlist.name, job.rerank.name, job.rerank.codec)
    if config is not None:
        there = (config.backbone.name, config.shortlist.name, config.rerank.name, config.codec)
        if asked == there:
            return Shape(config.shortlist_m, config.shortlist_dim, config.record_bytes, config.scales)
        if like is not None:
            words = f"{like} keeps {' / '.join(there)} and the job {' / '.join(asked)}"
            raise ConfigError(f"{words}; name another --like")
    tokens = registry().build(job.backbone_ref()).shape
    try:
        first, rerank = (registry().build(ref, tokens) for ref in (job.shortlist_ref(), job.rerank_ref()))
    except ValueError as error:
        raise ConfigError(f"an aggregator of {job.path.name} does not fit its backbone: {error}") from None
    kept = codec(job.rerank.codec)
    return Shape(first.k, first.dim, kept.record_bytes(rerank.k, rerank.dim), kept.scales)


def listed(reader: Reader) -> Listing:
    """What there is: all items of up to READ parts, of more the first, the middle and the last part's.

    Raises ReaderError without items, and for an id that is listed twice.
    """
    parts = reader.parts()
    few = {0, len(parts) // 2, len(parts) - 1}
    looked = range(len(parts)) if len(parts) <= READ else sorted(few)
    schema = items_schema(reader.columns)
    ids: list[tuple[str, pa.Array]] = []
    rows = size = sized = 0
    for at in looked:
        items = list(reader.read(parts[at]))
        ids.append((parts[at], pa.array([item.id for item in items], pa.string())))
        rows += len(items)
        if at in few:
            size += len(items_file(items_table(items, schema, "part")))
            sized += len(items)
    if not sized:
        raise ReaderError("the reader lists no items in the parts that were read: nothing to plan with")
    check_ids(ids)
    return Listing(
        round(rows * len(parts) / len(looked)), len(parts), size / sized, len(looked) == len(parts)
    )


def like_index(root: Path) -> Listing:
    """Of an index that is there. Raises IndexMismatch; ConfigError where it is empty."""
    snapshot = Snapshot(store_at(root))
    if not len(snapshot):
        raise ConfigError(f"{root} holds no view to plan with")
    size = sum(part.record.files[ITEMS].bytes for part in snapshot.parts)
    return Listing(len(snapshot), len(snapshot.parts), size / len(snapshot))
