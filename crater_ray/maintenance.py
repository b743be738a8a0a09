"""Commands that maintain an index: what it will cost and holds, whether it is whole, old versions. No Ray."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import click

from crater_ray.index.store import store_at
from crater_ray.jobfile import told as said
from crater_ray.options import (
    columns,
    examples,
    index_argument,
    index_path,
    job_argument,
    json_option,
    overrides_option,
    show,
    version_option,
)


@click.command(epilog=examples("info moon.toml", "info indexes/moon --skipped"))
@index_argument
@click.option("--skipped", is_flag=True, help="List the items that were skipped, with the reasons.")
@click.option("--schema", is_flag=True, help="List the items' columns, with what each holds.")
@json_option
def info(index: Path, skipped: bool, schema: bool, as_json: bool) -> None:
    """What an index holds: version, views by body, parts, tokens, bytes a view, skipped items."""
    from crater_ray.index.info import facts, skipped_items
    from crater_ray.index.info import info as describe
    from crater_ray.index.snapshot import Snapshot

    if skipped and schema:
        raise click.UsageError("--skipped and --schema are two lists: ask for one")
    store = store_at(index)
    if not (skipped or schema):
        if as_json:
            show(describe(store), True, str)
        else:
            click.echo(f"{said(index)}\n{columns(facts(Snapshot(store)))}")
        return
    snapshot = Snapshot(store)
    found = skipped_items(snapshot) if skipped else snapshot.columns
    rows = [("id", "reason") if skipped else ("column", "type"), *found.items()]
    show(found, as_json, lambda: columns(rows) if found else f"{said(index)}: no item is skipped")


@click.command()
@index_argument
@json_option
def verify(index: Path, as_json: bool) -> None:
    """Check every checksum of every file of an index; name each bad one and exit 1."""
    from crater_ray.index.verify import verify as check

    found = check(store_at(index))

    def text() -> str:
        lines = [f"{problem.path}: {problem.reason}" for problem in found.problems]
        lines += [f"note: {note.path}: {note.reason}" for note in found.notes]
        lines.append(
            f"{said(index)}: {found.files} files, {found.bytes:,} bytes read, "
            + (f"{len(found.problems)} bad" if found.problems else "every one is good")
        )
        return "\n".join(lines)

    show(asdict(found), as_json, text)
    if found.problems:
        sys.exit(1)


@click.group()
def parts() -> None:
    """List an index's parts, or leave some out."""


@parts.command(name="list")
@index_argument
@version_option
@json_option
def list_parts(index: Path, version: int | None, as_json: bool) -> None:
    """Every part by name: rows, skipped items, bytes, reader, and the compacted part it stands in."""
    from crater_ray.index.info import inventory

    lines = inventory(store_at(index), version)

    def text() -> str:
        cells = [
            (
                line.name,
                f"{line.rows:,}",
                str(line.skipped),
                f"{line.bytes:,}",
                line.reader,
                line.compacted or "-",
            )
            for line in lines
        ]
        return columns([("part", "rows", "skipped", "bytes", "reader", "compacted"), *cells])

    show([asdict(line) for line in lines], as_json, text)


@parts.command(name="drop")
@index_argument
@click.argument("names", metavar="PART...", nargs=-1, required=True)
@json_option
def drop_parts(index: Path, names: Sequence[str], as_json: bool) -> None:
    """Publish a version without PART, a name or a pattern such as 'n60*'.

    Nothing is rewritten and nothing is deleted: `gc` does that once no reader holds an older version.
    An `index` of a job that still lists the part brings it back.
    """
    from crater_ray.jobs.change import drop

    done = drop(store_at(index), names)
    version = done.version
    told = {
        "version": version.number,
        "parts": len(version.parts),
        "rows": version.rows,
        "dropped": done.dropped,
    }
    show(
        told,
        as_json,
        lambda: (
            f"{said(index)}: version {version.number}, {version.rows:,} rows; {done.dropped} parts dropped"
        ),
    )


@click.command()
@index_argument
@click.option(
    "--rows",
    type=click.IntRange(1),
    default=65_536,
    show_default=True,
    help="Parts are put together up to this many rows.",
)
@click.option(
    "--segments",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Shortlist segments; a service spreads whole ones over its shards.",
)
@json_option
def compact(index: Path, rows: int, segments: int, as_json: bool) -> None:
    """Merge small parts and rebuild the shortlist index of the current version, as a new version.

    Nothing is encoded, answers stay what they are, and `index` still knows every part by its name: one that
    changes is taken out of its compacted part again.
    """
    from crater_ray.jobs.compact import compact as run

    done = run(store_at(index), rows=rows, segments=segments)
    show(asdict(done), as_json, lambda: f"{said(index)}: {done.as_text()}")


@click.command()
@index_argument
@click.option(
    "--keep",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="The newest versions that stay: the current one, and ones to go back to.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed.")
@click.option(
    "--force", is_flag=True, help="On a file system without locks, where nobody can tell who reads."
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    metavar="HOURS",
    help="How long a version stays after another took its place; on object storage 24 if left out, else 0.",
)
@json_option
def gc(index: Path, keep: int, dry_run: bool, force: bool, grace: float | None, as_json: bool) -> None:
    """Remove old versions that nobody reads, and what only they refer to.

    On object storage also uploads that did not finish. Who reads there is believed to for 15 minutes after.
    """
    from crater_ray.index.gc import collect as run

    hours = None if grace is None else timedelta(hours=grace)
    done = run(store_at(index), keep, force=force, dry=dry_run, grace=hours)

    def text() -> str:
        first, *kept = done.as_text().splitlines()
        if not (done.versions or done.bytes or done.uploads):
            return "\n".join([f"{said(index)}: nothing to remove", *kept])
        return "\n".join([f"{said(index)}: {'would remove' if dry_run else 'removed'} {first}", *kept])

    show(asdict(done), as_json, text)


def _count(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """A whole number, as 20000 or 1e9."""
    if value is None:
        return None
    try:
        number = float(value.replace("_", ""))
    except ValueError:
        number = 0.5
    if number < 1 or not number.is_integer():
        raise click.BadParameter(f"{value!r} is not a number of views, such as 20000 or 1e9", ctx, param)
    return int(number)


@click.command(name="plan")
@job_argument
@click.option(
    "--views",
    metavar="NUMBER",
    callback=_count,
    help="Images of the index, such as 1e9; what the reader lists if left out.",
)
@click.option(
    "--like",
    type=index_path,
    help="An index, or its job file, of the same index config and a like catalogue: "
    "nothing of JOB is then read or built.",
)
@click.option(
    "--images-per-second",
    type=click.FloatRange(min=0, min_open=True),
    default=20.0,
    show_default=True,
    help="That one encoder embeds; `index` prints it. The default is DINOv2 ViT-S/14 on two CPU cores.",
)
@click.option("--encoders", type=click.IntRange(1), help="That work at once; the job's if left out.")
@click.option("--nodes", type=click.IntRange(1), help="That serve the index; the job's shards if left out.")
@json_option
@overrides_option
def plan(
    job: Path,
    views: int | None,
    like: Path | None,
    images_per_second: float,
    encoders: int | None,
    nodes: int | None,
    as_json: bool,
    overrides: Sequence[str],
) -> None:
    """What a job's index will cost before it is built: bytes by file, memory, parts, hours, nodes."""
    from crater_ray.config import load_job
    from crater_ray.plan import run

    found = run(
        load_job(job, overrides),
        views=views,
        like=like,
        images_per_second=images_per_second,
        encoders=encoders,
        nodes=nodes,
    )
    show(found.as_dict(), as_json, found.as_text)
