"""Every item's nearest neighbours as one Parquet table, row ranges shared out over the cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import xxhash

from crater_ray.config import ClusterTable
from crater_ray.errors import QueryError, UserError
from crater_ray.files import make_folder, new_folder, refuse_out, remove_folder, whole_file, writing
from crater_ray.index.snapshot import Snapshot
from crater_ray.index.store import store_at
from crater_ray.jobs.cluster import cluster, threads_per_encoder
from crater_ray.jobs.progress import Counter
from crater_ray.jobs.ray_errors import answer
from crater_ray.request import SearchRequest
from crater_ray.retrieve import Index

ROWS = 512  # queries a task
QUERIES = 16  # scored together
SUFFIXES = (".parquet", ".pq")
ASKED = b"crater_ray"  # the key of the file's metadata
SCHEMA = pa.schema(
    [("query_id", pa.string()), ("rank", pa.int32()), ("id", pa.string()), ("score", pa.float32())]
)


@dataclass(frozen=True, slots=True)
class NeighboursReport:
    """What a table of neighbours holds."""

    out: Path
    rows: int
    items: int  # that were searched for: all, or those that pass the filters
    request: SearchRequest
    index: str  # its name
    version: int  # of the index

    def as_dict(self) -> dict[str, Any]:
        return {"out": str(self.out), "rows": self.rows, "items": self.items, **asked(self.out)}

    def as_text(self) -> str:
        return f"{self.out}: {self.rows} rows ({self.request.in_words()}, version {self.version})"


def run(
    root: Path,
    request: SearchRequest,
    out: Path,
    resources: ClusterTable,
    *,
    quiet: bool = False,
) -> NeighboursReport:
    """Write (query_id, rank, id, score), every item searched as the request says, never its own.

    With filters only items that pass are searched for, among themselves. The file's metadata says how it was
    asked for: see `asked`.
    Raises UserError when `out` cannot be written or is named as another format, QueryError for filters that
    nothing passes, StorageFull, ClusterError, and what opening the index raises.
    """
    index = Index(root, request.version)
    items = len(index) if (passing := index.local.mask(request)) is None else int(passing.sum())
    if not items:
        raise QueryError(f"no item of {root} passes: {request.in_words()}")
    if not out.is_dir() and out.suffix.lower() not in SUFFIXES:
        raise UserError(f"{out}: the table is written as Parquet; name a .parquet file")
    refuse_out(out, parents=True)
    pinned = index.snapshot.version.number
    how = {
        **request.described(),
        "index": {"name": root.name, "version": pinned},
    }
    starts = list(range(0, items, ROWS))
    attempt = new_folder(out.parent, f".{out.name}")
    try:
        with cluster(resources), Counter("neighbours", len(starts), quiet) as counter:
            threads = threads_per_encoder(resources)
            for done, rows in _bounded(
                starts, resources, (str(root), replace(request, version=pinned), str(attempt), threads)
            ):
                counter.update(done, rows)
        with whole_file(out, attempt) as joined:
            pieces = [attempt / f"{start:012d}.parquet" for start in starts]
            rows = _join(pieces, joined, SCHEMA.with_metadata({ASKED: json.dumps(how)}))
        return NeighboursReport(out, rows, items, request, root.name, pinned)
    finally:
        remove_folder(attempt)


def beside(root: Path, request: SearchRequest) -> Path:
    """Where a table lies in the folder of its index: one of each version and way to ask.

    Raises UserError for an index on object storage, StorageFull.
    """
    store = store_at(root)
    folder = store.as_folder("a table of neighbours lies beside the index, in a folder; name another file")
    version = request.version or Snapshot(store).version.number
    how = xxhash.xxh64_hexdigest(json.dumps(request.described(), sort_keys=True).encode())
    return make_folder(folder / "neighbours") / f"{version}.{how}.parquet"


def asked(table: Path) -> dict[str, Any]:
    """How a table was asked for, by its own metadata: the request, and of which version."""
    found: dict[str, Any] = json.loads(pq.read_schema(table).metadata[ASKED])
    return found


def _bounded(
    starts: list[int], resources: ClusterTable, shared: tuple[Any, ...]
) -> Iterator[tuple[int, int]]:
    """(ranges done, rows done) after each range; at most two ranges a worker in flight."""
    waiting, done, rows = list(reversed(starts)), 0, 0
    running: list[Any] = []
    while waiting or running:
        while waiting and len(running) < 2 * resources.encoders:
            running.append(
                _search.options(num_cpus=resources.cpus_per_encoder).remote(waiting.pop(), *shared)
            )
        ready, running = ray.wait(running, num_returns=1)
        rows += answer(ready[0])
        done += 1
        yield done, rows


@ray.remote(max_retries=3)
def _search(start: int, root: str, request: SearchRequest, attempt: str, threads: int) -> int:
    import torch

    from crater_ray.shard import Queries

    torch.set_num_threads(threads)
    assert request.version is not None  # pinned by the driver
    index = _opened(root, request.version)
    mask = index.local.mask(request)
    rows = (np.arange(len(index)) if mask is None else np.flatnonzero(mask))[start : start + ROWS]
    found: list[pa.Table] = []
    for first in range(0, len(rows), QUERIES):
        block = rows[first : first + QUERIES]
        vectors, tokens = index.stored(block)
        queries = Queries(vectors, tokens, without=[np.array([row]) for row in block], mask=mask)
        answers = index.local.rank(queries, request)
        for row, ranking in zip(block, answers, strict=True):
            found.append(
                pa.table(
                    [
                        [index.ids[row]] * len(ranking),
                        np.arange(1, len(ranking) + 1, dtype=np.int32),
                        [index.ids[hit] for hit in ranking.rows],
                        ranking.scores.astype(np.float32),
                    ],
                    schema=SCHEMA,
                )
            )
    path = Path(attempt) / f"{start:012d}.parquet"
    with writing(path):
        pq.write_table(pa.concat_tables(found), path)
    return len(rows)


_INDEXES: dict[tuple[str, int], Index] = {}  # one open index a worker process


def _opened(root: str, version: int) -> Index:
    if (root, version) not in _INDEXES:
        _INDEXES.clear()
        _INDEXES[root, version] = Index(root, version)
    return _INDEXES[root, version]


def _join(pieces: list[Path], out: Path, schema: pa.Schema) -> int:
    rows = 0
    with pq.ParquetWriter(out, schema, write_page_checksum=True) as writer:
        for piece in pieces:
            table = pq.read_table(piece).cast(schema)
            rows += len(table)
            writer.write_table(table)
    return rows
