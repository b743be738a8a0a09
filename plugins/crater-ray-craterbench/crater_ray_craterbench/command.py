"""`crater-ray bench` measures what the paper measures, on any job; `crater-ray validate` checks a layout."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from crater_ray.options import device_option, job_argument, json_option, overrides_option, show, unused
from crater_ray_craterbench.sweep import FEW, QUERIES


@click.group()
def bench() -> None:
    """Measure what the paper measures, on any job: tables, figures, intervals."""


def _say(text: str) -> None:
    click.echo(text, err=True)


@bench.command()
@job_argument
@device_option
@json_option
@overrides_option
@click.option(
    "--queries",
    type=click.IntRange(1),
    default=QUERIES,
    show_default=True,
    help="Take this many queries, evenly spaced; all where there are fewer.",
)
@click.option(
    "--few",
    type=click.IntRange(1),
    default=FEW,
    show_default=True,
    help="Queries of a dear configuration, such as K = 128 of a selection.",
)
@click.option(
    "--axis",
    "axes",
    multiple=True,
    metavar="NAME",
    help="Measure this axis, such as whitening; may be given again. All if left out.",
)
@click.option("--grid", is_flag=True, help="Every selection with every assignment, at every K.")
def tokens(
    job: Path,
    queries: int,
    few: int,
    axes: Sequence[str],
    grid: bool,
    device: str,
    as_json: bool,
    overrides: Sequence[str],
) -> None:
    """Sweep pooling, selection, assignment, scoring, K, codec and two stages over a job's cached tokens.

    The backbone runs once. One axis at a time moves around attention seeds, residual assignment, MaxSim and
    fp16. Run it again to resume. Tables and figures go to <out>/bench.
    """
    from crater_ray.config import load_job
    from crater_ray_craterbench.tokens import run

    if axes and "grid" not in axes:
        unused("--axis leaves the grid out; add --axis grid", "grid")
    report = run(
        load_job(job, overrides), queries=queries, few=few, grid=grid, only=axes, device=device, say=_say
    )
    show(report.as_dict(), as_json, report.as_text)


@bench.command()
@click.argument("job", metavar="JOB|FOLDER", type=click.Path(path_type=Path))
@device_option
@json_option
@overrides_option
@click.option(
    "--queries",
    type=click.IntRange(1),
    help="Take this many queries, evenly spaced; all if left out.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    help="A backbone of the list, or any timm model; may be given again. All of the list if left out.",
)
@click.option(
    "--weights",
    multiple=True,
    metavar="NAME=FILE",
    help="A safetensors file for one of them, such as a MarsDINO checkpoint; may be given again.",
)
@click.option(
    "--largest",
    type=click.FloatRange(0),
    default=400.0,
    show_default=True,
    metavar="MILLION",
    help="Leave out models of the list with more parameters.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Results; <out of the job>-backbones if left out."
)
def backbones(
    job: Path,
    queries: int | None,
    device: str,
    as_json: bool,
    overrides: Sequence[str],
    models: Sequence[str],
    weights: Sequence[str],
    largest: float,
    out: Path | None,
) -> None:
    """Score one vector an image of every backbone whose weights can be had; draw size against mAP.

    JOB is a job file, whose own backbone is scored too, or a FOLDER in the CraterBench-R layout. What has no
    weights here is listed with the reason. Run it again to resume.
    """
    from crater_ray.config import load_job
    from crater_ray_craterbench.backbones import folder_job, run

    if models:
        unused("models that --model names are not left out", "largest")
    files = {}
    for text in weights:
        name, equals, file = text.rpartition("=")
        if not equals or not name or not file:
            raise click.UsageError(f"--weights {text!r}: write it as NAME=FILE")
        files[name] = Path(file)
    named = job.is_file() or job.suffix == ".toml"
    if not named and overrides:
        raise click.UsageError("--set changes a job file, and a folder was given")
    report = run(
        load_job(job, overrides) if named else folder_job(job),
        own=named,
        models=models,
        weights=files,
        largest=largest,
        queries=queries,
        out=out,
        device=device,
        say=_say,
    )
    show(report.as_dict(), as_json, report.as_text)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def validate(folder: Path, as_json: bool) -> None:
    """Check a folder in the CraterBench-R layout, ours or the published one."""
    from crater_ray_craterbench.layout import validate_layout

    problems = validate_layout(folder)
    show(problems, as_json, lambda: "\n".join(problems) or f"{folder}: a valid CraterBench-R layout")
    if problems:
        sys.exit(1)
