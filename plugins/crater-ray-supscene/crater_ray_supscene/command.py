"""`crater-ray train`: thin; what is heavy is imported when it runs."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("train")
@click.argument("job", type=click.Path(path_type=Path))
@click.option("--trunk-only", is_flag=True, help="Fill the cache of the frozen trunk, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="A.B=VALUE",
    help="Replace one value of the job file; may be given again.",
)
def train(job: Path, trunk_only: bool, as_json: bool, overrides: tuple[str, ...]) -> None:
    """Train the last blocks of a backbone and an aggregator as JOB, a TOML file, says.

    Run again to go on where a killed run stopped. The result is OUT/model, which an index job names with
    [backbone] name = "trained", path = "OUT/model".
    """
    from crater_ray_supscene.training.run import train as run

    report = run(job, overrides, lambda text: click.echo(text, err=True), trunk_only)
    if report is not None:
        click.echo(json.dumps(report.as_dict()) if as_json else report.as_text())
