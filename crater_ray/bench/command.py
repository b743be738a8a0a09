"""`crater-ray bench`: what the paper measures, on any job."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click


@click.group()
def bench() -> None:
    """Measure what the paper measures, on any job: tables, figures, intervals."""


@bench.command()
@click.argument("job", type=click.Path(path_type=Path))
@click.option(
    "--queries",
    type=click.IntRange(1),
    help="Take this many queries, evenly spaced; all if left out.",
)
@click.option(
    "--few",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Queries of a dear configuration, such as K = 128 of a selection.",
)
@click.option("--grid", is_flag=True, help="Every selection with every assignment, at every K.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="A.B=VALUE",
    help="Replace one value of the job file; may be given again.",
)
def tokens(
    job: Path, queries: int | None, few: int, grid: bool, as_json: bool, overrides: Sequence[str]
) -> None:
    """Sweep pooling, selection, assignment, matching, K, codec and two stages over a job's cached tokens.

    The backbone runs once. One axis at a time moves around attention seeds, residual assignment, MaxSim and
    fp16. Run it again to resume. Tables and figures go to <out>/bench.
    """
    from crater_ray.bench.tokens import run
    from crater_ray.config import load_job

    report = run(
        load_job(job, overrides),
        queries=queries,
        few=few,
        grid=grid,
        say=lambda text: click.echo(text, err=True),
    )
    click.echo(json.dumps(report.as_dict()) if as_json else report.as_text())
