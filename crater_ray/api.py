"""What the commands do, for Python and notebooks: each takes a job and returns its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from crater_ray.config import Job, load_job
from crater_ray.request import SearchOptions, SearchRequest

if TYPE_CHECKING:
    from crater_ray.evaluation.evaluate import EvaluationReport
    from crater_ray.jobs.change import Mode
    from crater_ray.jobs.index import IndexReport
    from crater_ray.jobs.neighbours import NeighboursReport

JobLike = Job | Mapping[str, Any] | str | Path  # a job, its tables as a dict, or its file


def build_index(
    job: JobLike,
    *,
    mode: Mode = "all",
    parts: Sequence[str] = (),
    drop: Sequence[str] = (),
    allow_missing: bool = False,
    quiet: bool = False,
) -> IndexReport:
    """Encode what a job lists into its index; call it again to resume, or to take up what has changed.

    `mode` "add" and "replace", `parts` and `drop` are --add, --replace, --part and --drop of the command.
    """
    from crater_ray.jobs.index import run

    return run(_job(job), mode=mode, parts=parts, drop=drop, allow_missing=allow_missing, quiet=quiet)


def evaluate(
    job: JobLike,
    *,
    depth: int | None = None,
    run: str | Path | None = None,
    qrels: str | Path | None = None,
    sheet: str | Path | None = None,
    quiet: bool = False,
    **options: Unpack[SearchOptions],
) -> EvaluationReport:
    """Score a job's index, made where there is none, with its [queries]; in mode "exact" unless told.

    `options` are fields of SearchRequest. `depth` ranks are kept of each query; `run` and `qrels` are TREC
    files to write, `sheet` is a PNG of some queries and hits.
    """
    from crater_ray.evaluation import evaluate as evaluation

    options.setdefault("mode", "exact")
    request = SearchRequest(**options)
    files = {"run_file": run, "qrels": qrels, "sheet": sheet}
    written = {name: None if file is None else Path(file) for name, file in files.items()}
    return evaluation.run(_job(job), request, depth=depth, quiet=quiet, **written)


def neighbours(
    job: JobLike, out: str | Path | None = None, *, quiet: bool = False, **options: Unpack[SearchOptions]
) -> NeighboursReport:
    """Write every item's nearest neighbours as Parquet: query_id, rank, id, score.

    Searched as the job's [neighbours] says, but for `options`, fields of SearchRequest. Without `out` the
    table lies in the index's folder, beside those of consumers.
    """
    from crater_ray.jobs.neighbours import beside, run

    found = _job(job)
    request = replace(found.neighbours.request(), **options)
    table = beside(found.out, request) if out is None else Path(out)
    return run(found.out, request, table, found.cluster, quiet=quiet)


def _job(job: JobLike) -> Job:
    if isinstance(job, Job):
        return job
    if not isinstance(job, Mapping | str | Path):
        raise TypeError(f"job is a job, its tables as a dict, or the path of its file, not {job!r}")
    return load_job(job)
