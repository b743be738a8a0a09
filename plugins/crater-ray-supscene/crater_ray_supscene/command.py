"""`crater-ray train`: thin; what is heavy is imported when it runs."""

from __future__ import annotations

from pathlib import Path

import click

from crater_ray.options import job_argument, json_option, overrides_option, show, unused


@click.command("train")
@job_argument
@click.option("--features-only", is_flag=True, help="Fill the cache of frozen features, and stop.")
@json_option
@overrides_option
def train(job: Path, features_only: bool, as_json: bool, overrides: tuple[str, ...]) -> None:
    """Train the last blocks of a backbone and an aggregator as JOB, a TOML file, says.

    Run again to resume a killed run. The result is OUT/model, which an index job names with
    [backbone] name = "trained", path = "OUT/model".
    """
    from crater_ray_supscene.training.run import train as run

    if features_only:
        unused("--features-only makes no report", "as_json")
    report = run(job, overrides, lambda text: click.echo(text, err=True), features_only)
    if report is not None:
        show(report.as_dict(), as_json, report.as_text)
