"""What an index will cost before it is built: bytes by kind of file, memory, hours. Arithmetic, no Ray."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from crater_ray.config import Job
from crater_ray.errors import ConfigError, ReaderError
from crater_ray.index.config import Recipe, find_recipe
from crater_ray.index.parts import CODES, ITEMS, PART, SCALES, VECTORS
from crater_ray.index.snapshot import Snapshot
from crater_ray.index.store import store_at
from crater_ray.index.writer import items_file, items_schema, items_table
from crater_ray.jobs.segment import BLOCK, MOST_ROWS
from crater_ray.plugins import Aggregator, Backbone, Reader, registry

IMAGES_PER_SECOND = (
    20.0  # of one encoder: DINOv2 ViT-S/14 at 224 px in bf16 on two CPU cores (docs/benchmarks/encoding.md)
)
SAMPLED = 3  # parts whose items are looked at
NPY_HEADER = 128
PART_JSON = 640  # bytes: four files with their checksums, shapes, names
PART_LINES = 230  # bytes of a part in versions/<n>.json and in segment.json
VERSION = 2800  # bytes of the rest of both: readers' options, most of all
PROCESS = (
    428 << 20
)  # anonymous bytes of a searcher beside its index: 0.48 GB in all for 20,039 views of the Moon
ROW = 160  # bytes a view of what a searcher holds of items: id and group as Python's strings, Arrow's columns
BUILDER = 320 << 20  # anonymous bytes of a worker that builds stage one, beside what it builds
LEARNT_FROM = 8192  # vectors that a whitening reads at a time, in float64
GROWN = 1.5  # of a list's bytes, while it grows by doubling
ENTRY = 8  # bytes of a vector's number in a list of an IVF index


@dataclass(frozen=True, slots=True)
class Shape:
    """What an image is kept as."""

    shortlist_m: int  # vectors an image
    shortlist_dim: int  # G
    k: int
    dim: int  # of a stored token
    codec: str
    record_bytes: int
    scales: int  # float32 numbers an image

    @classmethod
    def of(cls, recipe: Recipe) -> Shape:
        """As the index of this recipe keeps it."""
        return cls(**{field.name: getattr(recipe, field.name) for field in fields(cls)})


@dataclass(frozen=True, slots=True)
class Listing:
    """What a reader lists, as far as it was looked at."""

    views: int  # of all parts, or those of the parts looked at made up to all
    parts: int
    item_bytes: float  # of items.parquet, a view
    part_bytes: float = PART_JSON  # of part.json
    counted: bool = True  # every view; False: `views` is an estimate


@dataclass(frozen=True, slots=True)
class Plan:
    """Bytes are of the disk unless they are called memory; hours are of all encoders at once."""

    views: int
    parts: int
    files: dict[str, int]  # kind of file -> bytes
    bytes_per_view: float
    encoder_hours: float
    hours: float
    encoders: int
    images_per_second: float
    nodes: int  # that the index is served from
    searcher_memory: int  # bytes, anonymous, of one node
    page_cache: int  # bytes, of one node, that keep every query off the disk
    builder_memory: int  # bytes, where a segment of stage one is built
    segments: int
    factory: str  # of FAISS, that stage one has; "auto" is resolved
    counted: bool = True  # False: `views` is an estimate from some of the parts

    @property
    def bytes(self) -> int:
        return sum(self.files.values())

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "bytes": self.bytes}

    def as_text(self) -> str:
        width = max(len(name) for name in (*self.files, "all"))
        lines = [f"{'' if self.counted else 'about '}{self.views:,} views in {self.parts:,} parts", ""]
        lines += [f"{name:<{width}}  {told(size):>9}" for name, size in self.files.items()]
        lines += [f"{'all':<{width}}  {told(self.bytes):>9}  {self.bytes_per_view:,.0f} bytes a view", ""]
        lines.append(
            f"encoding   {self.encoder_hours:,.1f} encoder-hours at {self.images_per_second:g} images/s; "
            f"{self.hours:,.1f} h on {self.encoders}"
        )
        lines.append(
            f"stage one  {self.factory}; {told(self.builder_memory)} of memory to build one of "
            f"{self.segments} segments"
        )
        lines.append(
            f"serving    on {self.nodes} nodes: each {told(self.bytes // self.nodes)} of disk, "
            f"{told(self.searcher_memory)} of memory a searcher, {told(self.page_cache)} of page cache"
        )
        return "\n".join(lines)


def run(
    job: Job,
    *,
    views: int | None = None,
    like: Path | None = None,
    images_per_second: float = IMAGES_PER_SECOND,
    encoders: int | None = None,
    nodes: int | None = None,
    segments: int | None = None,
) -> Plan:
    """The plan of a job; its shapes are those of an index that is there, else of objects built here.

    The reader is asked for all its parts and the items of three; with `like`, an index of the same reader and
    recipe, nothing of the job's is read. Raises ConfigError for `like` of another recipe, and what building
    objects and listing raise.
    """
    shape = shape_of(job, like)
    listing = listed(registry().build(job.reader_ref())) if like is None else like_index(like)
    nodes = nodes or job.serve.shards
    return estimate(
        shape,
        listing,
        views=views or listing.views,
        factory=job.shortlist.index,
        whiten=job.shortlist.whiten,
        images_per_second=images_per_second,
        encoders=encoders or job.cluster.encoders,
        nodes=nodes,
        segments=segments or nodes,
    )


def estimate(
    shape: Shape,
    listing: Listing,
    *,
    views: int,
    factory: str,
    whiten: bool,
    images_per_second: float = IMAGES_PER_SECOND,
    encoders: int = 1,
    nodes: int = 1,
    segments: int = 1,
) -> Plan:
    """The arithmetic. `views` scales what was listed: parts keep their size."""
    from crater_ray.search.factories import FLAT, chosen, learns_from

    parts = max(1, round(listing.parts * views / max(listing.views, 1)))
    vectors = views * shape.shortlist_m * shape.shortlist_dim
    axes = min(shape.shortlist_dim, 1024) if whiten else shape.shortlist_dim
    held = views * shape.shortlist_m  # vectors in stage one
    segments = max(segments, -(-views // MOST_ROWS))
    factory = chosen(factory, held)
    fixed, each = stage_one_bytes(factory, axes)
    files = {
        CODES: views * shape.record_bytes,
        VECTORS: 2 * vectors + NPY_HEADER * parts,
        SCALES: (4 * views * shape.scales + NPY_HEADER * parts) if shape.scales else 0,
        ITEMS: round(views * listing.item_bytes),
        PART: round(parts * listing.part_bytes),
        "shortlist.faiss": round(segments * fixed + held * each),
        "fitted": round((4 * (axes + 1) * shape.shortlist_dim if whiten else 0) + fixed),
        "versions and segments": VERSION + PART_LINES * parts,
    }
    mapped = "IVF" in factory  # lists stay in the file: their pages are not a searcher's own
    memory = 4.0 * held * axes if factory == FLAT else segments * fixed + (0 if mapped else held * each)
    loose = ROW * views + files[SCALES] + 8 * views  # items, scales, ranks of ids
    whole = 0.0 if factory == FLAT else fixed + GROWN * held * each / segments  # while it is built
    block = 4.0 * min(BLOCK, held) * axes * 3  # whitened, finite, added
    learn = 3 * 8 * min(LEARNT_FROM, held) * shape.shortlist_dim if whiten else 0
    taught = 2 * 4 * min(learns_from(factory), held) * axes if fixed else 0
    seconds = views / images_per_second
    return Plan(
        views,
        parts,
        files,
        sum(files.values()) / max(views, 1),
        seconds / 3600,
        seconds / 3600 / encoders,
        encoders,
        images_per_second,
        nodes,
        PROCESS + round((memory + loose) / nodes),
        round((files[CODES] + (files["shortlist.faiss"] if mapped else 0)) / nodes),
        BUILDER + round(max(learn, taught, whole + block)),
        segments,
        factory,
        listing.counted or views != listing.views,
    )


def stage_one_bytes(factory: str, dim: int) -> tuple[float, float]:
    """(bytes of a segment's FAISS file whatever it holds, bytes a vector): measured on small ones."""
    if factory == "Flat":
        return 0.0, 0.0  # vectors.npy is the index
    lists = re.search(r"IVF(\d+)", factory)
    if lists is None:
        return _line(factory, dim)
    few, more = (re.sub(r"IVF\d+", f"IVF{count}", factory) for count in (16, 32))
    (fixed, each), (wider, _) = _line(few, dim), _line(more, dim)
    return fixed + (int(lists.group(1)) - 16) * (wider - fixed) / 16, each


def _line(factory: str, dim: int) -> tuple[float, float]:
    """Of two sizes: where the line between them starts, and its slope."""
    few, many = 2048, 4096
    small, large = (_saved(factory, dim, count) for count in (few, many))
    each = (large - small) / (many - few)
    return small - few * each, each


def _saved(factory: str, dim: int, count: int) -> int:
    from crater_ray.search.faiss_filter import faiss
    from crater_ray.search.shortlist import Shortlist

    vectors = np.random.default_rng(0).standard_normal((count, 1, dim)).astype(np.float32)
    try:
        return len(faiss.serialize_index(Shortlist.build(vectors, factory).index))
    except ValueError as error:
        raise ConfigError(str(error)) from None


def shape_of(job: Job, like: Path | None = None) -> Shape:
    """Of an index that is there, or of the job's own objects built on this machine's CPU.

    Raises ConfigError when `like` keeps other tokens than the job.
    """
    recipe = find_recipe(store_at(like or job.out))
    if recipe is not None:
        asked = (job.backbone.name, job.shortlist.name, job.rerank.name, job.rerank.codec)
        there = (recipe.backbone.name, recipe.shortlist.name, recipe.rerank.name, recipe.codec)
        if like is not None and asked != there:
            raise ConfigError(
                f"{like} keeps {' / '.join(there)} and the job {' / '.join(asked)}; name another --like"
            )
        if asked == there:
            return Shape.of(recipe)
    from crater_ray.search.codecs import codec

    backbone: Backbone = registry().build(job.backbone_ref())
    try:
        shortlist: Aggregator = registry().build(job.shortlist_ref(), backbone.shape)
        rerank: Aggregator = registry().build(job.rerank_ref(), backbone.shape)
    except ValueError as error:
        raise ConfigError(f"an aggregator of {job.path.name} does not fit its backbone: {error}") from None
    chosen = codec(job.rerank.codec)
    return Shape(
        shortlist.k,
        shortlist.dim,
        rerank.k,
        rerank.dim,
        chosen.name,
        chosen.record_bytes(rerank.k, rerank.dim),
        chosen.scales,
    )


def listed(reader: Reader) -> Listing:
    """Every part counted, three of them read: the first, the one in the middle and the last.

    Raises ReaderError without parts or items.
    """
    parts = reader.parts()
    looked = sorted({0, len(parts) // 2, len(parts) - 1}) if parts else []
    schema = items_schema(reader.columns)
    rows = size = 0
    for at in islice(looked, SAMPLED):
        items = list(reader.read(parts[at]))
        rows, size = rows + len(items), size + len(items_file(items_table(items, schema, parts[at])))
    if not rows:
        raise ReaderError("the reader lists no items in the parts that were looked at: nothing to plan with")
    counted = len(looked) == len(parts)
    return Listing(round(rows * len(parts) / len(looked)), len(parts), size / rows, counted=counted)


def like_index(root: Path) -> Listing:
    """Of an index that is there: the parts in force, three of them looked at. Raises IndexMismatch."""
    snapshot = Snapshot(store_at(root))
    full = [part for part in snapshot.parts if len(part)]
    if not full:
        raise ConfigError(f"{root} holds no view to plan with")
    looked = [full[at] for at in sorted({0, len(full) // 2, len(full) - 1})]
    rows = sum(len(part) for part in looked)
    records = _mean((part.folder / PART).stat().st_size for part in full)  # skipped items and all
    size = sum(part.record.files[ITEMS].bytes for part in looked)
    return Listing(len(snapshot), len(full), size / rows, records)


def told(count: float) -> str:
    """Bytes as people say them."""
    units = ["B", "kB", "MB", "GB", "TB", "PB"]
    at = 0
    while count >= 1000 and at < len(units) - 1:
        count, at = count / 1000, at + 1
    return f"{count:.0f} {units[at]}" if at == 0 or count >= 100 else f"{count:.1f} {units[at]}"


def _mean(values: Iterable[float]) -> float:
    every: Sequence[float] = list(values)
    return sum(every) / len(every)
