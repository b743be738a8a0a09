"""Bytes and requests of one query on object storage: the index copied whole, against ranges of it.

    python benchmarks/object_storage.py [--views 20000] [--json]

An index of synthetic views (random tokens: only sizes count) on the S3 server of the tests. Each row is a
machine without copies, which asks with one of the views; "next" is its second query. Needs the tests' extra.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
from synthetic import build_shortlist, kept, listing, unit
from table import Report, arguments, show

from crater_ray.index.config import IndexConfig, create_or_check
from crater_ray.index.lock import DriverLock
from crater_ray.index.store import store_at
from crater_ray.index.versions import Version, publish
from crater_ray.plugins import PluginRef
from crater_ray.retrieve import Index
from crater_ray.search.codecs import codec

SERVER = Path(__file__).resolve().parents[1] / "tests" / "s3_server.py"
K, DIM, CODEC, PART, BLOCK = 32, 384, "int2", 1000, 250
CANDIDATES = (100, 200, 1000)


@contextmanager
def server() -> Iterator[str]:
    """The address of a server with a bucket `bench`, told to this process by its environment."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(SERVER), str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    endpoint = f"http://127.0.0.1:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1"}
    os.environ.update(AWS_ENDPOINT_URL=endpoint, AWS_ALLOW_HTTP="true", **keys)
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/bench", method="PUT")).close()
    try:
        yield endpoint
    finally:
        process.stdin.close()
        process.wait(30)


def written(out: str, views: int, factory: str) -> None:
    """An index of that many views and that shortlist, in parts of PART."""

    def ref(kind: str, name: str) -> PluginRef:
        return PluginRef(kind, name, {}, "crater_ray.builtin", "crater-ray", "0.1.0")

    config = IndexConfig(
        side="gallery",
        backbone=ref("backbone", "timm"),
        backbone_digest="",
        grid=(16, 16),
        shortlist=ref("aggregator", "cls"),
        shortlist_m=1,
        shortlist_dim=DIM,
        rerank=ref("aggregator", "instance_tokens"),
        k=K,
        dim=DIM,
        codec=CODEC,
        record_bytes=codec(CODEC).record_bytes(K, DIM),
        scales=codec(CODEC).scales,
        scoring="maxsim",
        batch=8,
        precision="float32",
        max_pixels=1,
        seed=0,
    )
    random = np.random.default_rng(0)

    def blocks(first: int) -> Iterator[tuple[object, np.ndarray]]:
        for start in range(first, min(first + PART, views), BLOCK):
            rows = np.arange(start, min(start + BLOCK, first + PART, views))
            tokens = unit(random.standard_normal((len(rows), K, DIM), np.float32))
            yield listing("S", rows // 2, rows % 2, random), tokens

    store = store_at(out)
    with DriverLock(store):
        create_or_check(store, config)
        parts = [
            kept(out, f"p{first:07d}", config, str(first), blocks(first)) for first in range(0, views, PART)
        ]
        publish(store, Version(1, 0, tuple(parts), (), (ref("reader", "folder"),)))
    build_shortlist(out, factory)


def counted(endpoint: str) -> dict[str, int]:
    """Requests, and bytes of the answers, since the last call."""
    with urllib.request.urlopen(f"{endpoint}/counted") as answer:
        found: dict[str, int] = json.load(answer)
        return found


def asked(endpoint: str, out: str, views: int, candidates: int, download: bool) -> list[dict[str, int]]:
    """What the first query of a machine without copies takes, and its second."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["CRATER_RAY_CACHE"] = cache
        counted(endpoint)
        index = Index(out, download=download)
        found = []
        for row in (views // 3, views // 2):
            id = f"S{row // 2:08d}_x{2 + row % 2}"
            assert len(index.search(id=id, top=10, mode="shortlist", candidates=candidates)) == 10
            found.append(counted(endpoint))
        return found


def measured(endpoint: str, views: int) -> Report:
    table: list[list[object]] = []
    keys: dict[str, float] = {}
    for name, factory in (("Flat", "Flat"), ("IVF", f"IVF{round(2 * views**0.5)},SQ8")):
        out = f"s3://bench/{name}"
        with tempfile.TemporaryDirectory() as cache:
            os.environ["CRATER_RAY_CACHE"] = cache
            written(out, views, factory)
        whole, again = asked(endpoint, out, views, CANDIDATES[1], True)
        table.append([f"{name}, copied whole", whole["requests"], whole["bytes"] / 1e6, 1.0])
        share = again["bytes"] / whole["bytes"]
        table.append([f"{name}, copied whole, next", again["requests"], again["bytes"] / 1e6, share])
        for count in CANDIDATES:
            first, again = asked(endpoint, out, views, count, False)
            for words, one in (("", first), (", next", again)):
                share = one["bytes"] / whole["bytes"]
                table.append(
                    [f"{name}, ranges, S = {count:,}{words}", one["requests"], one["bytes"] / 1e6, share]
                )
            if count == CANDIDATES[1]:
                keys[f"{name.lower()}_bytes_vs_whole"] = first["bytes"] / whole["bytes"]
    return Report(
        title=f"{views:,} views, {K} tokens of {DIM} dimensions in {CODEC}, parts of {PART:,}",
        columns=("query, shortlist of S candidates", "requests", "MB", "of the whole"),
        rows=table,
        keys=keys,
        wanted={name: "<= 0.5" for name in keys},
        notes=(
            "Flat compares all shortlist vectors and so reads them; IVF reads shortlist.faiss.",
            f"{views:,} views, {K} tokens of {DIM} dimensions in {CODEC}, parts of {PART:,}.",
        ),
    )


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--views", type=int, default=20_000)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    with server() as endpoint:
        report = measured(endpoint, options.views)
    show(report, options, obstore=version("obstore"))


if __name__ == "__main__":
    main()
