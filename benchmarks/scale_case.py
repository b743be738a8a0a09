"""One index under measurement: its queries, what the exact scan finds, a searcher's figures.

    python benchmarks/scale_case.py INDEX QUERIES [--version 1] [--queries 500] [--candidates 100]

prints one JSON object; benchmarks/scale.py asks for it, and reads what it means.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crater_ray.index.store import store_at

TOP = 10
EXACT_UP_TO = 200_000  # views: above that a single exact query takes many seconds
ROUNDS = 2
KEPT_EVERY = 100_000  # views of an exact scan that a stop may lose
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """An index and its queries."""

    name: str
    root: Path
    queries: Path
    version: int | None = None  # of the queries


class Queries:
    """Encoded queries, decoded as they are asked: they take no memory beside the index's."""

    def __init__(self, folder: Path, version: int | None, limit: int) -> None:
        from crater_ray.index.snapshot import Snapshot
        from crater_ray.search.codecs import codec

        self.opened = Snapshot(store_at(folder), version)
        self.rows = np.sort(np.random.default_rng(0).permutation(len(self.opened))[:limit])
        self.codec = codec(self.opened.config.codec)

    def __len__(self) -> int:
        return len(self.rows)

    def some(self, first: int, last: int) -> tuple[Array, Array]:
        """Vectors (n, m, G) and tokens (n, Q, D)."""
        rows, config = self.rows[first:last], self.opened.config
        tokens = self.codec.decode(*self.opened.gather(rows), config.k, config.dim)
        return np.asarray(self.opened.vectors(rows), np.float32), tokens

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        for at in range(len(self)):
            vectors, tokens = self.some(at, at + 1)
            yield vectors[0], tokens[0]


def truth(case: Case, limit: int, keep: Path) -> tuple[Array, Array]:
    """(queries, 10) rows that the exact scan puts first, and scores; kept, and gone on with after a stop."""
    from crater_ray.index.snapshot import Snapshot
    from crater_ray.search.kernel import score

    opened, queries = Snapshot(store_at(case.root)), Queries(case.queries, case.version, limit)
    config = opened.config
    keep.mkdir(parents=True, exist_ok=True)
    asked = "".join(part.entry.digest[:4] for part in queries.opened.parts[:4])
    path = keep / f"{case.root.name}-{len(opened)}-{asked}-{len(queries)}.npz"
    best, rows, begin = np.full((len(queries), TOP), -np.inf), np.full((len(queries), TOP), -1), 0
    if path.exists():
        with np.load(path) as kept:
            best, rows, begin = kept["best"], kept["rows"], int(kept["done"])
    if begin == len(opened):
        return rows, best
    _, tokens = queries.some(0, len(queries))
    how: dict[str, Any] = {"codec": config.codec, "k": config.k, "dim": config.dim, "scoring": config.scoring}
    started, since = time.monotonic(), begin
    for first, codes, scales in opened.blocks(4096):
        last = first + len(codes)
        if first < begin:
            continue
        found = score(tokens, codes, scales, **how)
        few = np.argsort(-found, axis=1, kind="stable")[:, :TOP]
        best = np.concatenate([best, np.take_along_axis(found, few, 1)], 1)
        rows = np.concatenate([rows, few + first], 1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :TOP]
        best, rows = np.take_along_axis(best, order, 1), np.take_along_axis(rows, order, 1)
        if last == len(opened) or last // KEPT_EVERY > first // KEPT_EVERY:
            np.savez(path.with_suffix(".part.npz"), best=best, rows=rows, done=last)
            path.with_suffix(".part.npz").rename(path)
            left = (len(opened) - last) * (time.monotonic() - started) / (last - since)
            print(
                f"exact scan of {case.name}: {last:,} of {len(opened):,}, {left:.0f} s left", file=sys.stderr
            )
    return rows, best


def searched(case: Case, limit: int, candidates: int | None, threads: int) -> dict[str, Any]:
    """Figures of a searcher in this process: opened, asked all queries once, then measured."""
    import faiss
    import torch

    from crater_ray.request import SearchRequest
    from crater_ray.retrieve import Index
    from crater_ray.shard import Queries as encoded

    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    queries = Queries(case.queries, case.version, limit)
    before = memory()
    began = time.perf_counter()
    index = Index(case.root, threads=threads)
    index.local.shard.warm()
    opened = time.perf_counter() - began
    request = SearchRequest(top=TOP, candidates=candidates)
    exact = SearchRequest(top=TOP, mode="exact")
    spent: list[float] = []
    for round in range(1 + ROUNDS):
        found = []
        for vectors, tokens in queries:
            began = time.perf_counter()
            hits = index.local.answer(encoded(vectors[None], tokens[None]), request)
            if round:
                spent.append(time.perf_counter() - began)
            found.append([hit.id for hit in hits])
    segments = index.snapshot.segments
    told: dict[str, Any] = {
        "views": len(index),
        "codec": index.snapshot.config.codec,
        "open_s": opened,
        "p50_ms": 1e3 * float(np.percentile(spent, 50)),
        "p99_ms": 1e3 * float(np.percentile(spent, 99)),
        **{f"{name}_before": size for name, size in before.items()},
        **memory(),
        "factory": segments[0].factory,
        "told": [segment.told() for segment in segments],
        "tuning": segments[0].tuning,
        "faiss_bytes": sum(
            segment.sum.bytes if segment.sum else 4 * segment.rows * segment.m * segment.dim
            for segment in segments
        ),
        "ids": found,
        "bytes": index.snapshot.bytes_per_image(),
    }
    if len(index) <= EXACT_UP_TO:
        spent = []
        for vectors, tokens in [query for query, _ in zip(queries, range(4), strict=False)]:
            began = time.perf_counter()
            index.local.answer(encoded(vectors[None], tokens[None]), exact)
            spent.append(time.perf_counter() - began)
        told["exact_ms"] = 1e3 * float(np.median(spent[1:]))
    return told


def memory(pid: int | str = "self") -> dict[str, int]:
    """Bytes of a process: anonymous, and pages of files that it has mapped and touched."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    told = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines[1:]}
    return {"anonymous": told["Anonymous"], "file": told["Rss"] - told["Anonymous"]}


def recall(found: Sequence[Sequence[str]], ids: Any, rows: Array) -> float:
    """The share of the exact scan's ten that were found."""
    wanted = [{ids[int(row)].as_py() for row in ten} for ten in rows]
    return float(np.mean([len(set(got) & ten) / len(ten) for got, ten in zip(found, wanted, strict=True)]))


def words(case: Case, options: Any) -> list[str]:
    """Of this program, in a process of its own."""
    asked = [str(case.root), str(case.queries), "--queries", str(options.queries)]
    asked += ["--version", str(case.version)] if case.version else []
    asked += ["--candidates", str(options.candidates)] if getattr(options, "candidates", None) else []
    return [*asked, "--threads", str(options.threads)]


def alone(program: str, *words: str, prefix: Sequence[str] = ()) -> dict[str, Any]:
    """What a program beside this one prints last, in a process of its own.

    Its numpy takes the kernels that are made for this processor, whatever the caller's environment says.
    """
    here = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    program = str(Path(__file__).with_name(program))
    command = [*prefix, sys.executable, program, *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=here)
    if done.returncode:
        raise SystemExit(f"{program} {' '.join(words)} failed")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("asked", metavar="queries", type=Path)
    parser.add_argument("--version", type=int, help="of the queries")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--candidates", type=int)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    case = Case(options.index.name, options.index, options.asked, options.version)
    print(json.dumps(searched(case, options.queries, options.candidates, options.threads)))


if __name__ == "__main__":
    main()
