"""`crater-ray evaluate`: a job's [queries] against its index: numbers, a TREC run, a sheet to look at."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from crater_ray.config import Job
from crater_ray.errors import QueryError
from crater_ray.evaluation.metrics import concatenate, group_codes, relevance, score_queries, summarise
from crater_ray.evaluation.own import nothing_relevant, own
from crater_ray.evaluation.trec import write_qrels, write_run
from crater_ray.files import refuse_out
from crater_ray.hits import SHEET_HITS, sheet_row
from crater_ray.index.store import store_at
from crater_ray.index.versions import latest
from crater_ray.jobs import index as index_job
from crater_ray.jobs.progress import Counter
from crater_ray.plugins import Reader, registry
from crater_ray.request import SearchRequest
from crater_ray.retrieve import Index
from crater_ray.shard import Queries
from crater_ray.types import Item, TokenPair

Array = np.ndarray[Any, Any]
TOGETHER = 8  # queries scored in one call
SHEET_ROWS = 6


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """What an evaluation found: means over the queries that have a relevant image in the gallery."""

    request: SearchRequest  # how the queries were searched
    version: int  # of the index
    gallery: int  # images, or those that pass the filters
    queries: int
    without_relevant: int
    own: int  # queries that are in the gallery too: their images are left out of their own rankings
    namesakes: int  # queries whose id the gallery gives to another image, which stays
    skipped: int
    means: dict[str, float]
    bytes_per_image: dict[str, float]
    seconds_per_query: float

    def as_dict(self) -> dict[str, Any]:
        how = self.request.described()
        return {
            **{name: how[name] for name in ("mode", "expand", "filters", "box", "near")},
            "candidates": self.request.deep,
            "version": self.version,
            "gallery": self.gallery,
            "queries": self.queries,
            "without_relevant": self.without_relevant,
            "own": self.own,
            "namesakes": self.namesakes,
            "skipped": self.skipped,
            **self.means,
            "bytes_per_image": self.bytes_per_image["total"],
            "bytes_by_stage": self.bytes_per_image,
            "seconds_per_query": self.seconds_per_query,
        }

    def as_text(self) -> str:
        lines = [
            f"{self.request.in_words()}: {self.queries} queries against {self.gallery} images, "
            f"version {self.version}"
        ]
        if self.without_relevant:
            lines.append(
                f"{self.without_relevant} queries have no relevant image in the gallery and are left out"
            )
        if self.own:
            lines.append(
                f"{self.own} queries are in the gallery themselves: each is left out of its own ranking"
            )
        if self.namesakes:
            lines.append(f"{self.namesakes} queries have the id of another image of the gallery, which stays")
        if self.skipped:
            lines.append(f"{self.skipped} queries are skipped")
        lines += [f"{name:<16} {value:.4f}" for name, value in self.means.items()]
        stages = ", ".join(
            f"{stage} {size:,.0f}" for stage, size in self.bytes_per_image.items() if stage != "total"
        )
        lines.append(f"{'bytes an image':<16} {self.bytes_per_image['total']:,.0f} ({stages})")
        lines.append(f"{'seconds a query':<16} {self.seconds_per_query:.4f}")
        return "\n".join(lines)


def run(
    job: Job,
    request: SearchRequest | None = None,
    *,
    run_file: Path | None = None,
    qrels: Path | None = None,
    depth: int | None = None,
    sheet: Path | None = None,
    quiet: bool = False,
) -> EvaluationReport:
    """Score the index of `job`, made where there is none, with its [queries], encoded once and kept.

    `depth` ranks of each query are scored (None: the whole gallery); a relevant image below counts zero, as
    does one that the shortlist missed. An image that is asked and lies in the gallery is left out of its own
    ranking (own.py).
    Raises ConfigError without [queries], where nothing is relevant but the queries themselves, QueryError for
    filters that nothing passes, and as the index job.
    """
    job.queries_ref()  # said before any work
    for out in (run_file, qrels, sheet):
        if out is not None:
            refuse_out(out)
    request = request or SearchRequest(mode="exact")
    if latest(store_at(job.out)) is None:
        index_job.run(job, quiet=quiet)
    index_job.run(job, side="query", quiet=quiet)
    gallery, queries = Index(job.out), Index(index_job.place_of(job, "query").url)
    listed = _listed(job)
    asked = [listed[id] for id in queries.ids]
    wanted = [item.relevant or {item.group: 1.0} for item in asked]
    codes, names = group_codes(gallery.groups)
    itself = own(gallery, queries)
    passing = gallery.local.mask(request)
    images = len(gallery) if passing is None else int(passing.sum())
    if not images:
        raise QueryError(f"no image of {gallery.root} passes: {request.in_words()}")
    every = images if depth is None else min(depth, images)
    deep = request.deep
    request = replace(request, top=every if deep is None else min(every, deep))  # no more are reranked
    scores: list[dict[str, Any]] = []
    best: list[tuple[Array, Array]] = []  # of each query, for the sheet
    seconds = 0.0

    def rankings() -> Iterator[tuple[str, list[tuple[str, float]]]]:
        """Each query's ranking; rankings are scored as they pass and not kept, for they can be large."""
        nonlocal seconds
        for start in range(0, len(asked), TOGETHER):
            rows = np.arange(start, min(start + TOGETHER, len(asked)))
            vectors, tokens = queries.stored(rows)
            begin = time.perf_counter()
            asked_now = Queries(vectors, tokens, itself.rows[rows[0] : rows[-1] + 1], mask=passing)
            found = gallery.local.rank(asked_now, request)
            seconds += time.perf_counter() - begin
            counter.update(int(rows[-1]) + 1)
            relevant = relevance(codes, names, wanted[start : start + TOGETHER])
            for one, row in zip(relevant, rows.tolist(), strict=True):
                one[itself.rows[row]] = False
                if passing is not None:
                    one &= passing
            scores.append(score_queries(_padded([one.rows for one in found]), relevant, codes))
            best.extend((one.rows[:SHEET_HITS], one.scores[:SHEET_HITS]) for one in found)
            for item, ranking in zip(asked[start : start + TOGETHER], found, strict=True):
                yield (
                    item.id,
                    (
                        [
                            (gallery.ids[row], float(value))
                            for row, value in zip(ranking.rows, ranking.scores, strict=True)
                        ]
                        if run_file
                        else []
                    ),
                )

    with Counter(f"score {request.mode}", len(asked), quiet, unit="queries") as counter:
        if run_file is not None:
            write_run(run_file, rankings())
        else:
            deque(rankings(), maxlen=0)
    if qrels is not None:
        gone = itself.rows
        if passing is not None:
            gone = [np.union1d(rows, np.flatnonzero(~passing)) for rows in gone]
        write_qrels(qrels, _judgements(gallery, asked, wanted, gone))
    if sheet is not None:
        _draw(job, gallery, asked, best, sheet, request)
    summary = summarise(concatenate(scores))
    if not summary.queries:
        raise nothing_relevant(job, itself.queries, len(asked))
    return EvaluationReport(
        request,
        gallery.snapshot.version.number,
        images,
        summary.queries,
        summary.excluded,
        itself.queries,
        itself.namesakes,
        sum(part.skipped for part in queries.snapshot.version.parts),
        summary.means,
        _bytes_read(gallery, request),
        seconds / max(1, len(asked)),
    )


def _bytes_read(gallery: Index, request: SearchRequest) -> dict[str, float]:
    """Of one image, by stage, "total" last: without its tokens where they are not compared."""
    sizes = gallery.snapshot.bytes_per_image()
    if not request.by_tokens:
        sizes = {stage: size for stage, size in sizes.items() if stage not in ("codes", "scales", "total")}
        sizes["total"] = sum(sizes.values())
    return sizes


def _listed(job: Job) -> dict[str, Item]:
    reader: Reader = registry().build(job.queries_ref())
    return {item.id: item for part in reader.parts() for item in reader.read(part)}


def _padded(rows: Sequence[Array]) -> Array:
    out = np.full((len(rows), max((len(row) for row in rows), default=0)), -1, np.int64)
    for place, row in enumerate(rows):
        out[place, : len(row)] = row
    return out


def _judgements(
    gallery: Index, asked: Sequence[Item], wanted: Sequence[Any], itself: Sequence[Array]
) -> Iterator[tuple[str, list[str]]]:
    members: dict[str, list[str]] = {}
    for id, group in zip(gallery.ids, gallery.groups, strict=True):
        members.setdefault(group, []).append(id)
    for item, groups, rows in zip(asked, wanted, itself, strict=True):
        out = {gallery.ids[row] for row in rows}
        ids = [id for group, gain in groups.items() if gain > 0 for id in members.get(group, [])]
        yield item.id, [id for id in ids if id not in out]


def _draw(
    job: Job,
    gallery: Index,
    asked: Sequence[Item],
    rankings: Sequence[tuple[Array, Array]],
    sheet: Path,
    request: SearchRequest,
) -> None:
    from crater_ray.sheet import draw
    from crater_ray.types import Hit

    reader: Reader = registry().build(job.queries_ref())
    chosen = np.linspace(0, len(asked) - 1, min(SHEET_ROWS, len(asked))).round().astype(int)
    rows = []
    for place in sorted(set(chosen.tolist())):
        item, (found, scores) = asked[place], rankings[place]
        picture = gallery.pixels(reader.load(item.uri))
        explanations: Sequence[tuple[TokenPair, ...]] = [()] * len(found)
        if request.by_tokens:
            explanations = gallery.local.shard.explain(gallery.local.encode(picture).tokens[0], found)
        hits = [
            Hit(rank, gallery.ids[row], gallery.groups[row], float(score), pairs)
            for rank, (row, score, pairs) in enumerate(zip(found, scores, explanations, strict=True), 1)
        ]
        rows.append(sheet_row(gallery, picture, item.id, hits, set(item.relevant or {item.group: 1.0})))
    draw(rows, sheet, title=f"{job.out.name}, mode {request.mode}")
