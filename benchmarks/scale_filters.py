"""What a filter costs and keeps where the shortlist is IVF; benchmarks/scale.py --filters N prints the table.

An index of N vectors around places, which lie in REGIONS, is written into a folder that is thrown away: once
as one segment, once as three, and some of its rows are dropped after that. Views are one token, which is
the shortlist vector, so that an exact query compares the same things as the shortlist.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from table import Report

from crater_ray.index.store import store_at

DIM, REGIONS, PLACE = 128, 10, 200  # dimensions; regions; views of a place, about
SPREAD = 0.5, 0.7  # of places around their region's centre, and of views around their place: lengths
QUERIES, ROUNDS, TOP = 100, 3, 20
SHARES = 0.1, 0.01, 0.001, 0.0001
PARTS = ("held", 0.6), ("dropped", 0.1), ("more", 0.15), ("most", 0.15)
WANTED = {"hits": "all there are", "recall": ">= 0.98", "time": "<= 2"}
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Drawn:
    """N unit vectors (N, DIM), and the place and the region (N,) of each."""

    vectors: Array
    place: Array
    region: Array


@dataclass(frozen=True)
class Row:
    """One filter on one index: means over the queries."""

    filter: str
    passing: int
    segments: int
    hits: float
    recall: float
    ms: float
    over: float  # times an unfiltered query


def drawn(count: int, seed: int, queries: bool = False) -> Drawn:
    """Queries (seed) are more views of the same places."""
    random = np.random.default_rng(0)
    regions = _unit(random.standard_normal((REGIONS, DIM)))
    of = random.integers(0, REGIONS, max(REGIONS, count // PLACE) if not queries else seed)
    places = _unit(regions[of] + SPREAD[0] * _unit(random.standard_normal((len(of), DIM))))
    random = np.random.default_rng([1, int(queries)])
    place = random.integers(0, len(of), count)
    noise = SPREAD[1] * _unit(random.standard_normal((count, DIM)))
    return Drawn(_unit(places[place] + noise).astype(np.float16), place, of[place])


def _unit(rows: Array) -> Array:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def write(root: Path, rows: Drawn, segments: bool) -> None:
    """The index, of one segment or (`segments`) of one after the other; then one part is dropped."""
    from synthetic import build_shortlist, reader

    from crater_ray.index.config import create_or_check
    from crater_ray.index.lock import DriverLock
    from crater_ray.index.parts import part_digest
    from crater_ray.index.versions import Version, latest, publish
    from crater_ray.index.writer import PartWriter
    from crater_ray.jobs.change import drop
    from crater_ray.search.codecs import codec
    from crater_ray.types import Item

    config, entries, first = _config(), [], 0
    create_or_check(store_at(root), config)
    for number, (name, share) in enumerate(PARTS):
        last = len(rows.vectors) if number == len(PARTS) - 1 else first + round(share * len(rows.vectors))
        items = [Item(f"{name}{row:07d}", f"p{rows.place[row]}", str(row)) for row in range(first, last)]
        vectors = rows.vectors[first:last, None]
        with DriverLock(store_at(root)):
            with PartWriter(
                store_at(root), name, part_digest(config.digest(), items), config, pa.schema([])
            ) as part:
                part.append(items, vectors, *codec(config.codec).encode(vectors))
                entries.append(part.commit())
            parts, parent = tuple(entries), latest(store_at(root))
            before = (parent.number, parent.segments) if parent else (0, ())
            publish(store_at(root), Version(before[0] + 1, before[0], parts, before[1], (reader(root),)))
        if number == len(PARTS) - 1 or (segments and number):  # what is dropped lies in the first segment
            build_shortlist(root)
        first = last
    drop(store_at(root), ["dropped"])


def _config() -> Any:
    from crater_ray.index.config import IndexConfig
    from crater_ray.plugins import registry
    from crater_ray.search.codecs import codec

    known, kept = registry(), codec("fp16")
    return IndexConfig(
        side="gallery",
        backbone=known.ref("backbone", "timm", {"model": "none"}),
        backbone_digest="none",
        grid=(1, 1),
        shortlist=known.ref("aggregator", "mean"),
        shortlist_m=1,
        shortlist_dim=DIM,
        rerank=known.ref("aggregator", "topk", {"k": 1}),
        k=1,
        dim=DIM,
        codec=kept.name,
        record_bytes=kept.record_bytes(1, DIM),
        scales=kept.scales,
        scoring="maxsim",
        batch=1,
        precision="fp32",
        max_pixels=1,
        seed=0,
    )


def filters(rows: Drawn, queries: Drawn) -> Iterator[tuple[str, Array]]:
    """Names, and masks (queries or 1, N) of rows that pass, in the index's order."""
    count = len(rows.vectors)
    order = np.random.default_rng(2).permutation(count)
    for share in SHARES:
        mask = np.zeros((1, count), bool)
        mask[0, order[: max(1, round(share * count))]] = True
        yield f"{100 * share:g} % by chance", mask
    yield "one region, the query's", rows.region[None] == queries.region[:, None]
    yield "one region, another", rows.region[None] == (queries.region[:, None] + 1) % REGIONS
    yield "one place, the query's", rows.place[None] == queries.place[:, None]
    yield "one place, another", rows.place[None] == np.roll(queries.place, 1)[:, None]
    yield "all but the query's place", rows.place[None] != queries.place[:, None]


def compared(index: Any, queries: Drawn, masks: Sequence[tuple[str, Array]]) -> list[Row]:
    """Each query without a filter, then under each; in turns, one at a time."""
    from crater_ray.request import SearchRequest
    from crater_ray.shard import Queries

    vectors = queries.vectors[:, None].astype(np.float32)
    exact = index.local.shard.exact(vectors)
    cases = [("none", np.ones((1, len(index)), bool)), *masks]
    spent: list[list[float]] = [[] for _ in cases]
    hits, found = [0] * len(cases), [0.0] * len(cases)
    for round in range(1 + ROUNDS):
        for at, query in enumerate(vectors):
            for number, (name, every) in enumerate(cases):
                mask = every[at % len(every)]
                began = time.perf_counter()
                asked = Queries(query[None], query[None], mask=None if name == "none" else mask)
                answer = index.local.answer(asked, SearchRequest(top=TOP))
                if round:
                    spent[number].append(time.perf_counter() - began)
                    continue
                there = np.flatnonzero(mask)
                best = there[np.argsort(-exact[at, there], kind="stable")[:TOP]]
                wanted = {index.ids[row] for row in best.tolist()}
                hits[number] += len(answer) if len(answer) == len(wanted) else 0
                found[number] += len(wanted & {hit.id for hit in answer}) / max(1, len(wanted))
    ms = [1e3 * float(np.median(seconds)) for seconds in spent]
    return [
        Row(
            name,
            int(every.sum(1).mean() + 0.5),
            len(index.snapshot.segments),
            hits[number] / len(vectors),
            found[number] / len(vectors),
            ms[number],
            ms[number] / ms[0],
        )
        for number, (name, every) in enumerate(cases)
    ]


def measured(views: int, threads: int) -> Report:
    """The table of an index of so many views."""
    import faiss
    import torch

    from crater_ray.retrieve import Index

    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    rows = drawn(views, 0)
    queries = drawn(QUERIES, int(rows.place.max()) + 1, queries=True)
    table: list[Row] = []
    notes: list[str] = []
    for segments in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "filters"
            write(root, rows, segments)
            index = Index(root, threads=threads)
            index.local.shard.warm()
            in_order = _in_order(rows, index)
            table += compared(index, queries, list(filters(in_order, queries)))
            notes += [segment.told() for segment in index.snapshot.segments]
    cells = [
        [
            *(one.filter, one.segments, f"{one.passing:,}", f"{one.hits:.1f}"),
            *(f"{one.recall:.4f}", f"{one.ms:.2f}", f"{one.over:.2f}"),
        ]
        for one in table
    ]
    filtered = [one for one in table if one.filter != "none"]
    keys = {
        "fewest hits over those there are": min(one.hits / min(TOP, one.passing) for one in filtered),
        "least recall@20": min(one.recall for one in filtered),
        "most time over unfiltered": max(one.over for one in filtered),
    }
    asked = dict(zip(keys, ("1", WANTED["recall"], WANTED["time"]), strict=True))
    notes.append(
        f"{QUERIES} queries, one at a time, {threads} thread(s), medians of {ROUNDS} rounds in turns; "
        f"{views - len(in_order.vectors):,} rows were dropped and are masked; recall is of the exhaustive "
        "scan's 20 best, or all there are, among rows that pass"
    )
    columns = ["filter", "segments", "rows passing", "hits", "recall@20", "p50 ms", "over unfiltered"]
    return Report("Filters", columns, cells, keys, asked, notes)


def _in_order(rows: Drawn, index: Any) -> Drawn:
    """Those that the index still has, in its order."""
    numbers = np.array([int(id[-7:]) for id in index.ids])
    return Drawn(rows.vectors[numbers], rows.place[numbers], rows.region[numbers])
