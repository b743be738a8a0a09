"""What the benches of tokens share: a job's cached tokens, regions that no fit saw, precision per query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import floor
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
SAMPLE, TOGETHER = 400, 8  # images a fit sees; queries a call


@dataclass(frozen=True)
class Way:
    """A [rerank] to measure. `splits`: how many fits, 0 where nothing is learnt."""

    label: str
    name: str
    options: dict[str, Any]
    splits: int = 1
    sample: int = SAMPLE  # images a fit sees


@dataclass
class Sun:
    """The queries under one sun."""

    name: str
    cached: Any
    rows: Array  # of its items that are asked
    regions: list[str]
    groups: list[str]
    ap: dict[tuple[str, int], Any] = field(default_factory=dict)  # way, seed -> (rows,)


def suns(job_path: Path, asked: Sequence[str], count: int) -> tuple[Any, list[Sun]]:
    """The gallery's cached tokens, and each sun's: `NAME` or `NAME:override;…` of the job."""
    from crater_ray.bench.cached import encoded
    from crater_ray.config import load_job

    found = []
    for text in asked:
        name, _, overrides = text.partition(":")
        gallery, queries = encoded(
            load_job(job_path, [one for one in overrides.split(";") if one]), quiet=True
        )
        rows = np.random.default_rng(0).permutation(len(queries.items))[:count]
        rows.sort()
        items = [queries.items[row] for row in rows]
        found.append(Sun(name, queries, rows, [region(i) for i in items], [i.group for i in items]))
    return gallery, found


def region(item: Any) -> str:
    """The 30-degree field it lies in."""
    lat, lon = (float(item.columns[name]) for name in ("lat", "lon"))
    return f"{floor(lat / 30)} {floor(lon / 30)}"


def split(regions: Sequence[str], seed: int) -> set[str]:
    """The half of the regions that is fitted on."""
    names = sorted(set(regions))
    return set(np.random.default_rng(seed).permutation(names)[: len(names) // 2].tolist())


def learnt_rows(gallery: Any, learn: set[str], sample: int) -> list[int]:
    """`sample` gallery images of the regions `learn`, those of lowest hashed id."""
    from crater_ray.jobs.fit import sampled

    chosen = {item.id for item in sampled((item for item in gallery.items if region(item) in learn), sample)}
    return [row for row, item in enumerate(gallery.items) if item.id in chosen]


def fitted(way: Way, gallery: Any, learn: set[str] | None) -> Any:
    """The aggregator, fitted on gallery images of the regions `learn`."""
    from crater_ray.plugins import registry

    here = registry()
    built = here.build(here.ref("aggregator", way.name, way.options), gallery.shape)
    if learn is not None and hasattr(built, "fit"):
        rows = learnt_rows(gallery, learn, way.sample)
        built.load(built.fit((tokens for _, tokens in gallery.tokens(rows)), 0))
    return built


def blocks(aggregator: Any, cached: Any, side: str, wanted: Any = None) -> Iterator[Array]:
    """(n, K, D) float32, a batch at a time."""
    import torch

    for _, tokens in cached.tokens(wanted):
        with torch.inference_mode():
            yield aggregator(tokens, side).numpy()


def coded(aggregator: Any, gallery: Any, codecs: Sequence[Any]) -> list[tuple[Array, Array]]:
    """Codes and scales of the gallery by each codec, in one pass over its tokens."""
    images, at = len(gallery.items), 0
    kept: list[tuple[Array, Array]] = []
    for rows in blocks(aggregator, gallery, "gallery"):
        some = slice(at, at + len(rows))
        for place, codec in enumerate(codecs):
            codes, scales = codec.encode(rows)
            if not at:
                widths = codes.shape[1], scales.shape[1]
                kept.append(
                    (np.empty((images, widths[0]), np.uint8), np.empty((images, widths[1]), np.float32))
                )
            kept[place][0][some], kept[place][1][some] = codes, scales
        at += len(rows)
    return kept


def average_precisions(
    queries: Array,
    groups: Sequence[str],
    kept: tuple[Array, Array],
    codec: str,
    aggregator: Any,
    gallery: Any,
    expand: int = 0,
) -> dict[str, Array]:
    """(B,) each of the exact scan of queries (B, Q, D); NaN where the gallery has nothing relevant.

    image_ap is over views, id_ap over craters, each where its best view stands. With `expand`, of queries
    that are asked again with so many of their first hits.
    """
    from crater_ray.bench.measure import fast_float32
    from crater_ray.bench.metrics import concatenate, group_codes, relevance, score_queries
    from crater_ray.search.codecs import codec as named_codec
    from crater_ray.search.expand import joined
    from crater_ray.search.kernel import score

    held, names = group_codes([item.group for item in gallery.items])
    codes, scales = kept
    found = []
    for start in range(0, len(queries), TOGETHER):
        some = queries[start : start + TOGETHER]
        with fast_float32():
            scores = score(some, codes, scales, codec=codec, k=aggregator.k, dim=aggregator.dim)
            if expand:
                firsts = np.argsort(-scores, 1, kind="stable")[:, :expand]
                hits = (
                    named_codec(codec).decode(codes[rows], scales[rows], aggregator.k, aggregator.dim)
                    for rows in firsts
                )
                some = np.stack(
                    [joined(query, list(tokens)) for query, tokens in zip(some, hits, strict=True)]
                )
                scores = score(some, codes, scales, codec=codec, k=aggregator.k, dim=aggregator.dim)
        wanted = [{group: 1.0} for group in groups[start : start + TOGETHER]]
        order = np.argsort(-scores, 1, kind="stable")
        found.append(score_queries(order, relevance(held, names, wanted), held))
    every = concatenate(found)
    return {name: every.get(name, np.empty(0)) for name in ("image_ap", "id_ap")}


def ratio_interval(found: Array, every: Array) -> tuple[float, float, float]:
    """The ratio of the two means and its 95 % bootstrap interval, both drawn with the same queries."""
    there = ~np.isnan(found) & ~np.isnan(every)
    found, every = found[there], every[there]
    drawn = np.random.default_rng(0).integers(0, len(every), (2000, len(every)))
    low, high = np.quantile(found[drawn].mean(1) / every[drawn].mean(1), (0.025, 0.975))
    return float(found.mean() / every.mean()), float(low), float(high)
