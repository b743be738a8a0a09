"""A command: `crater-ray template-hello`."""

from __future__ import annotations

import click

from crater_ray.plugins import registry


@click.command()
def hello() -> None:
    """Say what this plugin offers."""
    for row in registry().statuses():
        if row.distribution == "crater-ray-template":
            click.echo(f"{row.kind} {row.name}: {row.summary}")
