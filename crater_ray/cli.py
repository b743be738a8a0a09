"""The command line: thin. What is heavy is imported inside the command that needs it."""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from crater_ray.asking import evaluate, neighbours, query
from crater_ray.errors import CraterRayError
from crater_ray.init import init
from crater_ray.maintenance import compact, gc, info, parts, plan, verify
from crater_ray.options import (
    columns,
    examples,
    job_argument,
    json_option,
    overrides_option,
    show,
)
from crater_ray.ray_log import kept_log
from crater_ray.serve.cli import serve
from crater_ray.waiting import brief_spin

if TYPE_CHECKING:
    from crater_ray.config import Job


class _Stop:
    """Handles SIGTERM: unwinds as Ctrl-C does, so that workers are ended and locks freed."""

    number = signal.SIGINT  # what has asked to stop: Ray may raise a KeyboardInterrupt of its own for either

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.number = signal.SIGTERM
        raise KeyboardInterrupt


_stop = _Stop()


class _Group(click.Group):
    """The built-in commands and those of plugins, which are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from crater_ray.plugins import registry

        return sorted(registry().specs("command"))  # the core's own among them

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        from crater_ray.plugins import registry

        spec = registry().specs("command").get(cmd_name)
        if spec is None:
            return None
        if ctx.resilient_parsing:
            return click.Command(cmd_name, help=spec.summary)
        found = registry().factory(registry().find("command", cmd_name))
        if not isinstance(found, click.Command):
            raise click.ClickException(
                f"plugin command {cmd_name!r} is a {type(found).__name__}, not a click.Command"
            )
        return found

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo(
                f"Stopped by {_stop.number.name}: what a job has done is kept, "
                "the same command goes on from there",
                err=True,
            )
            sys.exit(128 + _stop.number)  # as shells do

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from crater_ray.plugins import registry

        plugins = {n: spec for n, spec in registry().specs("command").items() if n not in self.commands}
        own = {name: command.get_short_help_str(80) for name, command in self.commands.items()}
        with formatter.section("Commands"):
            formatter.write_dl(sorted(own.items()))
        if plugins:
            with formatter.section("Commands of plugins"):
                formatter.write_dl([(name, spec.summary) for name, spec in plugins.items()])


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="crater-ray")
@click.pass_context
def app(ctx: click.Context, debug: bool) -> None:
    """Retrieve craters and photographs: patch tokens, a shortlist, late interaction, on Ray."""
    ctx.obj = {"debug": debug}


def _job(path: Path, overrides: Sequence[str]) -> Job:
    from crater_ray.config import load_job

    return load_job(path, overrides)


@app.command(
    epilog=examples(
        "index moon.toml", "index mars.toml --add", "index moon.toml --set rerank.codec=int2 --set out=small"
    )
)
@job_argument
@click.option(
    "--add", is_flag=True, help="Keep the current version's parts, and add what the job lists to it."
)
@click.option(
    "--replace", is_flag=True, help="As --add, and parts of the job take the place of others' of their name."
)
@click.option(
    "--part", "only", multiple=True, metavar="PART", help="With those: only this part of the job's; again."
)
@click.option(
    "--drop", multiple=True, metavar="PART", help="With those: a part, or pattern, that leaves; again."
)
@click.option(
    "--allow-missing", is_flag=True, help="Publish a version even though parts failed; it records which."
)
@json_option
@overrides_option
def index(
    job: Path,
    add: bool,
    replace: bool,
    only: Sequence[str],
    drop: Sequence[str],
    allow_missing: bool,
    as_json: bool,
    overrides: Sequence[str],
) -> None:
    """Encode a job's catalogue into its index; run again to resume or to take up what has changed.

    The index then has what the job lists and nothing else; with --add or --replace also what it had.
    """
    from crater_ray.jobs.index import run

    if (only or drop) and not (add or replace):
        raise click.UsageError(
            "--part and --drop say how the current version changes: add --add or --replace"
        )
    report = run(
        _job(job, overrides),
        mode="replace" if replace else "add" if add else "all",
        parts=only,
        drop=drop,
        allow_missing=allow_missing,
    )
    show(report.as_dict(), as_json, report.as_text)


@app.command()
@click.argument("name")
@job_argument
@overrides_option
def consume(name: str, job: Path, overrides: Sequence[str]) -> None:
    """Hand a job's index and its neighbour table to the consumer NAME."""
    from crater_ray.jobs.consume import run

    click.echo(str(run(name, _job(job, overrides))))


@app.command()
@json_option
def plugins(as_json: bool) -> None:
    """List every plugin: kind, name, package, version, seam version, path, status."""
    from crater_ray.plugins import registry

    names = ("kind", "name", "distribution", "version", "seam", "path", "status", "reason")
    rows = [{name: getattr(row, name) for name in names} for row in registry().statuses()]

    def text() -> str:
        shown = [("kind", "name", "distribution", "version", "seam", "status", "path or reason")]
        for row in rows:
            seam = "-" if row["seam"] is None else str(row["seam"])
            told = row["reason"] or row["path"]
            shown.append((*(row[name] for name in names[:4]), seam, row["status"], told))
        return columns(shown)

    show(rows, as_json, text)


for command in (compact, evaluate, gc, info, init, neighbours, parts, plan, query, serve, verify):
    app.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: exit 2 for the user's mistake, 1 for ours, a traceback only with --debug."""
    brief_spin()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    if not debug:
        warnings.showwarning = _one_line_each()
    if threading.current_thread() is threading.main_thread():
        _stop.number = signal.SIGINT  # until told otherwise: main may be called again in one process
        signal.signal(signal.SIGTERM, _stop)
    try:
        app(arguments, standalone_mode=True)
    except CraterRayError as error:
        if debug:
            raise
        click.echo(f"Error: {error.message}", err=True)
        _say_log()
        sys.exit(error.exit_code)
    except Exception as error:
        if debug:
            raise
        from crater_ray.plugins.blame import blamed

        by = blamed(error) or "this is a fault of crater-ray or of a plugin"
        click.echo(
            f"Error: {type(error).__name__}: {error}; {by}: run `crater-ray --debug …` for the traceback",
            err=True,
        )
        _say_log()
        sys.exit(1)


def _say_log() -> None:
    if (log := kept_log()) is not None:
        click.echo(f"What Ray itself said meanwhile: {log}", err=True)


def _one_line_each() -> Callable[..., None]:
    """What shows warnings: a line each, once. Python itself repeats one after any `catch_warnings`."""
    shown: set[str] = set()

    def show(
        message: Warning | str, category: type[Warning], filename: str, *place: Any, **more: Any
    ) -> None:
        ours = issubclass(category, UserWarning) and "ray" not in Path(filename).parts  # not Ray's affairs
        if ours and str(message) not in shown:
            shown.add(str(message))
            click.echo(f"Warning: {message}", err=True)

    return show


if __name__ == "__main__":
    main()
