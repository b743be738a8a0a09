"""Every item's nearest neighbours as one Parquet table, row ranges shared out over the cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from crater_ray.config import ClusterTable
from crater_ray.errors import UserError
from crater_ray.files import new_folder, remove_folder, whole_file, writing
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


def run(
    root: Path,
    request: SearchRequest,
    out: Path,
    resources: ClusterTable,
    *,
    quiet: bool = False,
) -> int:
    """Write (query_id, rank, id, score), every item searched as the request says, never its own; how many.

    The file's metadata says how it was asked for: see `asked`.
    Raises UserError when `out` is a folder, is named as another format or its folder cannot be made,
    StorageFull, ClusterError, and what opening the index raises.
    """
    index = Index(root, request.version)
    if out.is_dir():
        raise UserError(f"{out} is a folder; name a .parquet file")
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"{out}: the table is written as Parquet; name a .parquet file")
    out.parent.mkdir(parents=True, exist_ok=True)
    pinned = index.snapshot.version.number
    how = {
        **request.described(),
        "index": {"name": root.name, "version": pinned},
    }
    starts = list(range(0, len(index), ROWS))
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
            return _join(pieces, joined, SCHEMA.with_metadata({ASKED: json.dumps(how)}))
    finally:
        remove_folder(attempt)


def asked(table: Path) -> dict[str, Any]:
    """How a table was asked for, by its own metadata: top, mode, candidates, expand, and of which version."""
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
    rows = np.arange(start, min(start + ROWS, len(index)))
    found: list[pa.Table] = []
    for first in range(0, len(rows), QUERIES):
        block = rows[first : first + QUERIES]
        vectors, tokens = index.stored(block)
        queries = Queries(vectors, tokens, without=[np.array([row]) for row in block])
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
