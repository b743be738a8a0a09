"""Stage one, side by side: what each choice of S images keeps of the exact int8 scan's mAP, and its price.

    python benchmarks/stages.py INDEX near=QUERIES any=QUERIES[@VERSION] [--queries 240] [--json]

QUERIES is an index of queries (`crater-ray evaluate` leaves INDEX/queries). All that is learnt is learnt
three times, each time from gallery images outside a region (6 of 18 meridian slices, drawn by the seed) and
asked only for craters inside it. A method scores every image with its own bytes; the S best are then scored
with their tokens, and an image that is not among them counts as missed. Intervals are of the ratio of means,
resampled by query.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import torch
from held_out import ratio_interval
from stage_methods import DEEPEST, Method, tokens_of, vectors_of
from table import Report, arguments, interleaved, ratio, show

from crater_ray.bench.metrics import group_codes, relevance, score_queries
from crater_ray.index.opened import Snapshot
from crater_ray.search.codecs import codec
from crater_ray.search.stages import exact, rerank

SEEDS, SLICES, OUT = 3, 18, 6
S_KEPT = (30, DEEPEST)
ROUNDS = 5


@dataclass(frozen=True)
class Queries:
    """Encoded queries of one sun: those of a region are asked."""

    vectors: np.ndarray  # (n, G)
    tokens: np.ndarray  # (n, Q, D)
    groups: list[str]
    slices: np.ndarray  # (n,) 0..17, by longitude


def load(text: str, limit: int) -> tuple[str, Queries]:
    """`near=FOLDER` or `near=FOLDER@VERSION`: up to `limit` queries, drawn."""
    sun, _, place = text.partition("=")
    folder, _, version = place.partition("@")
    opened = Snapshot(Path(folder), int(version) if version else None)
    rows = np.sort(np.random.default_rng(0).permutation(len(opened))[:limit])
    codes, scales = opened.gather(rows)
    recipe = opened.recipe
    tokens = codec(recipe.codec).decode(codes, scales, recipe.k, recipe.dim)
    groups = [opened.groups[int(row)].as_py() for row in rows]
    return sun, Queries(
        np.asarray(opened.vectors(rows), np.float32)[:, 0], tokens, groups, slices(opened)[rows]
    )


def slices(opened: Snapshot) -> np.ndarray:
    longitudes = opened.items(["lon"])["lon"].to_numpy()
    return ((longitudes + 360) % 360 // (360 / SLICES)).astype(int)


def regions() -> list[np.ndarray]:
    """Three regions of six slices that together are all 18."""
    return list(np.random.default_rng(0).permutation(SLICES).reshape(SEEDS, OUT))


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("queries", nargs="+", help="near=FOLDER any=FOLDER@VERSION")
    parser.add_argument("--queries", dest="limit", type=int, default=240, help="of each sun")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    faiss.omp_set_num_threads(options.threads)
    gallery = Snapshot(options.index)
    suns = dict(load(text, options.limit) for text in options.queries)
    place = slices(gallery)
    codes, names = group_codes(gallery.groups.to_pylist())
    kept: dict[
        tuple[str, str, int], list[np.ndarray]
    ] = {}  # (method, sun, S) -> AP of the queries, region by region
    full: dict[str, list[np.ndarray]] = {sun: [] for sun in suns}
    methods: list[Method] = []
    for seed, region in enumerate(regions()):
        outside = np.flatnonzero(~np.isin(place, region))
        methods = [*vectors_of(gallery, outside, seed), *tokens_of(gallery, outside, seed)]
        for sun, queries in suns.items():
            for asked in np.array_split(
                inside := np.flatnonzero(np.isin(queries.slices, region)), len(inside) // 8 + 1
            ):
                tokens = queries.tokens[asked]
                scores = scan(gallery, tokens)
                relevant = relevance(codes, names, [{queries.groups[at]: 1.0} for at in asked])
                full[sun].append(precisions(scores, relevant, codes))
                for method in methods:
                    first = np.stack([method.ask(queries.vectors[at], queries.tokens[at]) for at in asked])
                    added = method.fused * np.where(np.isfinite(first), first, 0)
                    for s in S_KEPT:
                        rows = np.argsort(-first, axis=1, kind="stable")[:, :s]
                        second = np.full_like(scores, -np.inf)
                        np.put_along_axis(second, rows, np.take_along_axis(scores + added, rows, 1), 1)
                        kept.setdefault((method.name, sun, s), []).append(precisions(second, relevant, codes))
    shares = prices(gallery, methods, next(iter(suns.values())))
    rows, keys = [], {}
    for method in methods:
        cells: list[object] = [method.name, f"{method.bytes:,.0f}"]
        for sun in suns:
            every = np.concatenate(full[sun])
            for s in S_KEPT:
                mean, low, high = ratio_interval(np.concatenate(kept[method.name, sun, s]), every)
                cells.append(f"{mean:.3f} ({low:.3f}–{high:.3f})")
                keys[f"{method.name}, {sun}, S = {s}"] = mean
        cells.append(f"{shares[method.name]:.1%}")
        keys[f"{method.name}, share of the scan"] = shares[method.name]
        rows.append(cells)
    exact_map = ", ".join(f"{sun} {np.nanmean(np.concatenate(full[sun])):.3f}" for sun in suns)
    count = ", ".join(f"{len(queries.groups)} {sun}" for sun, queries in suns.items())
    columns = [
        "stage one",
        "bytes an image",
        *(f"{sun}, S = {s}" for sun in suns for s in S_KEPT),
        "of the scan's time",
    ]
    notes = [
        f"{len(gallery):,} views, {count} queries in {SEEDS} held-out regions",
        f"Image mAP of the exact scan: {exact_map}",
        "Time: stage one and the rerank of 100 against the exact scan, one query, one thread, in turns.",
    ]
    wanted = {"one vector, whitened, share of the scan": "at most 0.10"}
    for sun in suns:
        wanted[f"one vector, whitened, {sun}, S = 30"] = "at least 0.97"
        wanted[f"one vector, whitened, {sun}, S = 100"] = "at least 0.99"
    show(
        Report("Stage one: share of the exact scan's mAP", columns, rows, keys, wanted, notes),
        options,
        torch=torch.__version__,
        faiss=faiss.__version__,
    )


def scan(gallery: Snapshot, tokens: np.ndarray) -> np.ndarray:
    recipe = gallery.recipe
    return exact(
        tokens, gallery.blocks(4096), codec=recipe.codec, k=recipe.k, dim=recipe.dim, rows=len(gallery)
    )


def precisions(scores: np.ndarray, relevant: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """AP of each query; what scores -inf is not found."""
    order = np.argsort(-scores, axis=1, kind="stable")
    order[np.take_along_axis(scores, order, 1) == -np.inf] = -1
    return score_queries(order, relevant, codes)["image_ap"]


def prices(gallery: Snapshot, methods: list[Method], queries: Queries) -> dict[str, float]:
    """Time of a whole query, stage one and the rerank of the deepest S, over the exact scan's."""
    recipe = gallery.recipe
    vector, tokens = queries.vectors[0], queries.tokens[:1]

    def two_stages(method: Method) -> Callable[[], object]:
        def run() -> object:
            first = method.ask(vector, tokens[0])
            rows = np.argpartition(-first, DEEPEST)[None, :DEEPEST]
            return rerank(tokens, rows, gallery.gather, codec=recipe.codec, k=recipe.k, dim=recipe.dim)

        return run

    ways: dict[str, Callable[[], object]] = {"scan": lambda: scan(gallery, tokens)}
    ways |= {method.name: two_stages(method) for method in methods}
    seconds = interleaved(ways, ROUNDS)
    return {method.name: ratio(seconds[method.name], seconds["scan"]) for method in methods}


if __name__ == "__main__":
    main()
