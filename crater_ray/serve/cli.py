"""`crater-ray serve`: its options. What is heavy is imported when it is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from crater_ray.options import address_option, file_path, overrides_option, unused, version_option


@click.command()
@click.argument("index", metavar="INDEX|JOB", type=file_path)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option(
    "--prefix", default="/", show_default=True, help="The path it is answered below, such as /moon."
)
@click.option(
    "--token-file",
    type=file_path,
    help="One bearer token a line, of 16 ASCII characters or more; what callers must send.",
)
@click.option("--no-auth", is_flag=True, help="Ask for no token; on this machine's own address only.")
@version_option
@click.option("--shards", type=click.IntRange(1), help="Searchers that the index is spread over.")
@click.option("--replicas", type=click.IntRange(1), help="Of each searcher.")
@click.option("--encoders", type=click.IntRange(1), help="Replicas that encode query images.")
@click.option("--basemap", type=file_path, help="A simple-cylindrical image for the map.")
@address_option
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="Where Prometheus finds the metrics.")
@click.option("--logs", type=file_path, help="A folder for the JSON logs; Ray's if left out.")
@overrides_option
def serve(
    index: Path,
    host: str,
    port: int,
    prefix: str,
    token_file: Path | None,
    no_auth: bool,
    version: int | None,
    shards: int | None,
    replicas: int | None,
    encoders: int | None,
    basemap: Path | None,
    address: str | None,
    metrics_port: int | None,
    logs: Path | None,
    overrides: Sequence[str],
) -> None:
    """Answer queries over HTTP, with a page to explore INDEX: an index, or a job file with [serve]."""
    from crater_ray.serve.command import plan, run, served_below

    if no_auth:
        unused("--no-auth asks for no token", "token_file")
    if address is not None:
        unused("the Ray cluster at --address has a port for its metrics already", "metrics_port")
    changes = {
        "shards": shards,
        "replicas": replicas,
        "encoders": encoders,
        "basemap": None if basemap is None else str(basemap.resolve()),
    }
    wanted = plan(
        index,
        host=host,
        token_file=token_file,
        no_auth=no_auth,
        version=version,
        logs=logs,
        changes={name: value for name, value in changes.items() if value is not None},
        overrides=overrides,
    )
    run(
        wanted,
        host=host,
        port=port,
        prefix=served_below(prefix),
        address=address,
        metrics_port=metrics_port,
        say=click.echo,
    )
