"""From Tokens to the AP of every query, for one configuration; a run's own arrays, no files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from crater_ray.config import Job
from crater_ray.evaluation.encoded import Cached, encoded
from crater_ray.evaluation.metrics import (
    concatenate,
    group_codes,
    interval,
    relevance,
    score_queries,
    summarise,
)
from crater_ray.evaluation.own import nothing_relevant, own_places
from crater_ray.plugins import PluginRef, registry
from crater_ray.types import Item, Side, Tokens
from crater_ray_craterbench.sweep import Configuration

Array = np.ndarray[Any, Any]
Scores = dict[str, Array]
BLOCK = 128  # queries scored in one call


@dataclass(frozen=True, slots=True)
class Measured:
    """One configuration's result: the scores of each query (Q,), and what the gallery costs."""

    scores: Scores  # of metrics.score_queries
    k: int
    query_k: int
    dim: int
    bytes_per_image: int  # of every stage

    def row(self, clusters: Sequence[str]) -> dict[str, Any]:
        """Its columns in a table. clusters: the group of each query, drawn together by the bootstrap."""
        summary = summarise(self.scores)
        bounds = interval(self.scores["image_ap"], clusters=clusters)
        kept = {"k": self.k, "query_k": self.query_k, "dim": self.dim, "bytes": self.bytes_per_image}
        counts = {"queries": summary.queries, "excluded": summary.excluded}
        return {**kept, **counts, **summary.means, "low": bounds.low, "high": bounds.high}


@dataclass(frozen=True, slots=True)
class Suite:
    """A gallery and the queries asked of it."""

    gallery: Cached
    queries: Cached
    shortlist: PluginRef  # of the two stages
    sample: int  # items that fits learn from
    seed: int
    device: str = "cpu"  # where tokens are joined
    own: tuple[Array, ...] = ()  # of each query (n,) the places in the gallery that are itself; (): none

    def asked(self, places: Sequence[int] | Array) -> list[Item]:
        return [self.queries.items[place] for place in places]


def suite_of(job: Job, count: int | None, device: str, quiet: bool) -> tuple[Suite, Array]:
    """A job's gallery and queries, encoded where they are not yet, and the places of `count` queries.

    Raises ConfigError when no query has a relevant image but itself, and as the index job.
    """
    gallery, asked = encoded(job, quiet=quiet)
    itself = own_places(gallery, asked)
    suite = Suite(gallery, asked, job.shortlist_ref(), job.index.fit_sample, job.index.seed, device, itself)
    places = spaced(np.arange(len(asked.items)), count)
    check_relevant(job, suite, places)
    return suite, places


def spaced(places: Array, count: int | None) -> Array:
    """`count` of the places, evenly spaced; all where there are no more."""
    if count is None or count >= len(places):
        return places
    chosen: Array = places[np.unique(np.linspace(0, len(places) - 1, count).round().astype(np.int64))]
    return chosen


def check_relevant(job: Job, suite: Suite, places: Array) -> None:
    """Raises ConfigError where no query at `places` has a relevant image but itself."""
    members = Counter(item.group for item in suite.gallery.items)
    alone = 0
    for place, item in zip(places, suite.asked(places), strict=True):
        own = suite.own[place] if suite.own else ()
        groups = set(item.relevant or {item.group})
        others = sum(members[group] for group in groups)
        if others > sum(suite.gallery.items[row].group in groups for row in own):
            return
        alone += others > 0
    raise nothing_relevant(job, alone, len(places))


def measure(suite: Suite, members: Sequence[Configuration], places: Array) -> list[Measured]:
    """A result for each of `members`, which differ in their stages only, over the queries at `places`.

    Raises ConfigError for an aggregator that does not fit the backbone, DamagedIndex for a damaged cache.
    """
    from crater_ray.search.codecs import codec as named_codec
    from crater_ray.search.kernel import score

    first = members[0]
    aggregator = _built(suite, first.ref())
    codec = named_codec(first.codec)
    gallery = _aggregated(aggregator, suite.gallery, "gallery", device=suite.device)
    pairs = [codec.encode(rows) for _, rows in gallery]
    codes, scales = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    del pairs
    asked = _rows(aggregator, suite.queries, "query", places, suite.device)
    staged = any(one.candidates for one in members)
    near = _shortlist(suite, places) if staged else None  # (Q, N), and its bytes

    ids = np.array([item.id for item in suite.gallery.items])
    by_id = np.argsort(ids, kind="stable")  # ties go by id
    groups, names = group_codes([item.group for item in suite.gallery.items])
    wanted = [item.relevant or {item.group: 1.0} for item in suite.asked(places)]
    chunks: list[list[Scores]] = [[] for _ in members]
    for start in range(0, len(places), BLOCK):
        block = slice(start, start + BLOCK)
        queries = asked[block].astype(np.float32)
        with fast_float32():
            scores = score(
                queries, codes, scales, codec=codec, k=aggregator.k, dim=aggregator.dim, scoring=first.scoring
            )
        relevant = relevance(groups, names, wanted[block])
        for at, place in enumerate(places[block] if suite.own else ()):
            scores[at, suite.own[place]], relevant[at, suite.own[place]] = -np.inf, False
            if near is not None:
                near[0][start + at, suite.own[place]] = -np.inf
        for one, chunk in zip(members, chunks, strict=True):
            read = scores if near is None or not one.candidates else _read(scores, near[0][block], by_id, one)
            chunk.append(score_queries(_order(read, by_id), relevant, groups))
    kept = codec.record_bytes(aggregator.k, aggregator.dim) + 4 * codec.scales
    return [
        Measured(
            concatenate(chunk),
            aggregator.k,
            asked.shape[1],
            aggregator.dim,
            kept + (near[1] if near is not None and one.candidates else 0),
        )
        for one, chunk in zip(members, chunks, strict=True)
    ]


def rate(k: int, dim: int) -> float:
    """Products of two tokens scored a second, here and now: K against K at `dim`, in float32."""
    import time

    from crater_ray.search.codecs import codec
    from crater_ray.search.kernel import score

    tokens = np.random.default_rng(0).standard_normal((128, k, dim)).astype(np.float32)
    tokens /= np.linalg.norm(tokens, axis=2, keepdims=True)
    codes, scales = codec("fp16").encode(tokens)
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        with fast_float32():
            score(tokens[:32], codes, scales, codec="fp16", k=k, dim=dim)
        seconds.append(time.perf_counter() - begin)
    return 32 * 128 * k * k / min(seconds)


def _built(suite: Suite, ref: PluginRef) -> Any:
    """The aggregator, fitted where it learns: on the gallery's items of lowest hashed id."""
    import torch

    aggregator = registry().build(ref, suite.gallery.shape)
    if registry().spec(ref).fits:
        places = suite.gallery.sample(suite.sample)
        sample = (_on(tokens, suite.device) for _, tokens in suite.gallery.tokens(places))
        aggregator.load(aggregator.fit(sample, suite.seed))
    module = isinstance(aggregator, torch.nn.Module)
    return aggregator.to(suite.device).eval() if module else aggregator


def _aggregated(
    aggregator: Any, cached: Cached, side: Side, places: Array | None = None, device: str = "cpu"
) -> Iterator[tuple[Array, Array]]:
    """Places and rows (n, k, D) float32, a batch at a time."""
    import torch

    def rows(tokens: Tokens) -> Array:
        with torch.inference_mode():
            return np.asarray(aggregator(_on(tokens, device), side).float().cpu().numpy())

    for where, tokens in cached.tokens(places):
        yield where, rows(tokens)


def _on(tokens: Tokens, device: str) -> Tokens:
    """The same on that device."""
    return tokens.map(lambda tensor: tensor.to(device))


def _rows(
    aggregator: Any, cached: Cached, side: Side, places: Array | None = None, device: str = "cpu"
) -> Array:
    """(n, k, D) float16, as an index keeps queries."""
    return np.concatenate(
        [rows.astype(np.float16) for _, rows in _aggregated(aggregator, cached, side, places, device)]
    )


def _shortlist(suite: Suite, places: Array) -> tuple[Array, int]:
    """The shortlist, (Q, N) float32: the best pair of vectors of each query and image; its bytes an image."""
    aggregator = _built(suite, suite.shortlist)
    device = suite.device
    gallery = _rows(aggregator, suite.gallery, "gallery", device=device).astype(np.float32)
    queries = _rows(aggregator, suite.queries, "query", places, device).astype(np.float32)
    scores = np.full((len(queries), len(gallery)), -np.inf, np.float32)
    for one in range(queries.shape[1]):
        for other in range(gallery.shape[1]):
            np.maximum(scores, queries[:, one] @ gallery[:, other].T, out=scores)
    return scores, 2 * gallery.shape[1] * gallery.shape[2]


def _read(scores: Array, near: Array, by_id: Array, one: Configuration) -> Array:
    """The scores of the images whose tokens are read; -inf for the others."""
    read = np.full_like(scores, -np.inf)
    rows = _order(near, by_id)[:, : one.candidates]
    np.put_along_axis(read, rows, np.take_along_axis(scores, rows, 1), 1)
    return read


def _order(scores: Array, by_id: Array) -> Array:
    """(B, N) rows, best first, ties by id; -1 where a score is -inf."""
    ordered = by_id[np.argsort(-scores[:, by_id], axis=1, kind="stable")]
    return np.where(np.take_along_axis(scores, ordered, 1) > -np.inf, ordered, -1)


@contextmanager
def fast_float32() -> Iterator[None]:
    """Float32 products by oneDNN where that is exact: several times quicker than MKL on some CPUs."""
    import torch

    if not _onednn_is_exact():
        yield
        return
    backend: Any = torch.backends.mkldnn
    settings = backend.matmul
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before


@cache
def _onednn_is_exact() -> bool:
    """Whether torch's switch to oneDNN keeps float32: a CPU with bfloat16 matrices rounds to them."""
    import torch

    settings: Any = getattr(torch.backends.mkldnn, "matmul", None)
    if getattr(settings, "fp32_precision", None) is None:  # an older torch
        return False
    left = torch.linspace(-1, 1, 512 * 384).view(512, 384).sin()
    right = left[:256].t().contiguous()
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    try:
        error = (left @ right - left.double() @ right.double()).abs().max()
    finally:
        settings.fp32_precision = before
    return bool(error < 1e-4)  # of sums up to 384; bfloat16 is a thousand times worse
