"""Arguments and options that commands share, and how they print."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from crater_ray.errors import QueryError
from crater_ray.jobfile import is_job
from crater_ray.types import CANDIDATES, MODES


def examples(*lines: str) -> str:
    """The end of a command's help: what is typed, a line each."""
    return "\n".join(["\b", "Examples:", *(f"  crater-ray {line}" for line in lines)])


class IndexPath(click.Path):
    """An index's folder or address; of a job file, its `out`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if not is_job(path):
            return path
        from crater_ray.config import load_job

        return load_job(path).out


file_path = click.Path(path_type=Path)
index_path = IndexPath(path_type=Path)
job_argument = click.argument("job", type=file_path)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
version_option = click.option(
    "--version", type=click.IntRange(1), help="Of the index; the current one if left out."
)
address_option = click.option("--address", help="A running Ray cluster; this machine if left out.")
sheet_option = click.option(
    "--sheet", type=file_path, help="Draw queries, hits and matched tokens into this PNG."
)


def index_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    command.__doc__ = f"""{command.__doc__}

    INDEX is the folder or s3:// address of an index; a JOB file stands for the index at its `out`.
    """
    return click.argument("index", metavar="INDEX|JOB", type=index_path)(command)


device_option = click.option(
    "--device",
    default="cpu",
    show_default=True,
    metavar="NAME",
    help="Where tokens are computed: cpu, cuda, cuda:1.",
)


def overrides_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="A.B=VALUE",
        help="Replace one value of the job file; may be given again.",
    )(command)


def search_options(mode: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """--mode, of that default, --candidates and --expand: the command takes a SearchRequest, `request`."""
    return _request_options(
        click.option(
            "--mode",
            type=click.Choice(MODES),
            default=mode,
            show_default=True,
            metavar="MODE",
            help="exact (scores every image), shortlist (reranks its candidates) or shortlist-only (ranks by "
            "one vector an image).",
        ),
        click.option(
            "--candidates",
            type=click.IntRange(1),
            show_default=str(CANDIDATES),
            metavar="S",
            help="Images of the shortlist that are reranked; with --mode shortlist alone.",
        ),
        click.option(
            "--expand",
            type=click.IntRange(0),
            default=0,
            show_default=True,
            metavar="E",
            help="First hits that join the query, which is then searched again (query expansion).",
        ),
    )


top_option = click.option("--top", type=click.IntRange(1), default=10, show_default=True)


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--filter, --box and --near."""
    for option in (
        click.option(
            "--near", metavar="LAT,LON,KM", help="Only items at most so many kilometres from that place."
        ),
        click.option("--box", metavar="W,S,E,N", help="Only items whose lat and lon lie inside, in degrees."),
        click.option(
            "--filter",
            "filters",
            multiple=True,
            metavar="COLUMN=VALUES",
            help="Only items of values, body=moon,mars, or of a range, diameter_km=5:20 or 'diameter_km>=5'; "
            "may be given again.",
        ),
    ):
        command = option(command)
    return command


def _request_options(*options: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of a search; they and those of the same names beside them become one SearchRequest."""

    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def checked(*args: Any, **given: Any) -> Any:
            from crater_ray.request import SearchRequest, parse_box, parse_filter, parse_near

            names = ("top", "mode", "candidates", "expand", "filters", "box", "near", "explain", "version")
            how = {name: given.pop(name) for name in names if name in given}
            try:
                if "filters" in how:
                    how["filters"] = tuple(parse_filter(text) for text in how["filters"])
                    how["box"] = None if how["box"] is None else parse_box(how["box"])
                    how["near"] = None if how["near"] is None else parse_near(how["near"])
                request = SearchRequest(**how)
            except QueryError as error:
                raise click.UsageError(f"--{error}") from None
            return command(*args, request=request, **given)

        for option in reversed(options):
            checked = option(checked)
        return checked

    return decorated


def unused(why: str, *names: str) -> None:
    """Refuses those parameters of the command that runs, if they were given: nothing would read them.

    Raises click.UsageError, which says `why`.
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in names and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"{max(parameter.opts, key=len)} is not used: {why}")


def show(value: object, as_json: bool, text: Callable[[], str]) -> None:
    """Prints JSON, or what `text` gives."""
    click.echo(json.dumps(value, ensure_ascii=False) if as_json else text())


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Lines with their cells under one another."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]) - 1)] + [0]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
