"""`crater-ray init`: a job file, written by asking, with what was found in the files."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import click

from crater_ray.errors import BadImage
from crater_ray.interview import Asking, as_typed, interview, option_of, questions_of
from crater_ray.options import examples, file_path
from crater_ray.plugins import PluginSpec, registry
from crater_ray.types import MAX_PIXELS

WIDE = 34  # characters of a line of the job, where its comment begins
SHOWN = ("shortlist", "rerank", "cluster")  # tables that stand in the job as comments, with their defaults


class _Questions(click.Command):
    """Has an option for every question that an installed reader or backbone declares."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        own = super().get_params(ctx)
        asked: dict[str, dict[str, list[str]]] = {}
        for kind in ("reader", "backbone"):
            for name, spec in registry().specs(kind).items():
                for question in questions_of(spec):
                    asked.setdefault(question.name, {}).setdefault(question.text, []).append(name)
        taken = {parameter.name for parameter in own}
        more: list[click.Parameter] = [
            click.Option(
                [option_of(name)],
                metavar="ANSWER",
                help="; ".join(f"{', '.join(names)}: {text}" for text, names in texts.items()),
            )
            for name, texts in asked.items()
            if name not in taken
        ]
        return [*own, *more]


@click.command(
    cls=_Questions,
    epilog=examples(
        "init moon.toml",
        "init mars.toml --yes --raster mola.tif --catalogue craters.csv --min-diameter-km 20",
        "init photos.toml --yes --reader folder --root photos",
    ),
)
@click.argument("job", type=file_path)
@click.option("--yes", is_flag=True, help="Ask nothing: take what is proposed where no option answers.")
@click.option("--reader", metavar="NAME", help="What lists the images; see `crater-ray plugins`.")
@click.option("--backbone", metavar="NAME", help="What computes the tokens.")
@click.option("--out", metavar="FOLDER", help="Where the index is to lie.")
def init(
    job: Path, yes: bool, reader: str | None, backbone: str | None, out: str | None, **given: Any
) -> None:
    """Write a job file by asking, and say what was found in the files.

    Every question can be answered beforehand by an option; "none" leaves an option of the job out.
    An option begins with the names of the readers or backbones that ask it.
    """
    if job.suffix != ".toml":
        raise click.UsageError(f"{job} is to be a job file: end its name in .toml")
    if job.exists():
        raise click.UsageError(f"{job} exists, and is not overwritten: edit it, or name another file")
    answers = {name: text for name, text in given.items() if text is not None}
    reader = reader or _reader(answers, ask=not yes)
    backbone = backbone or _backbone(answers, ask=not yes)
    specs = {
        "reader": registry().find("reader", reader).spec,
        "backbone": registry().find("backbone", backbone).spec,
    }
    asking = {kind: Asking(spec, answers, prompt=not yes) for kind, spec in specs.items()}
    options, queries = interview("reader", reader, asking["reader"])
    images, _ = interview("backbone", backbone, asking["backbone"])
    if left := [name for name in answers if not any(name in one.used for one in asking.values())]:
        raise click.UsageError(f"{option_of(left[0])} is not used: nothing asked for it")
    proposed = f"indexes/{job.stem}"
    if out is None:
        out = proposed if yes else click.prompt("Folder of the index", default=proposed, err=True)
    tables = {
        "reader": {"name": reader, **_beside(job, specs["reader"], options)},
        "backbone": {"name": backbone, **_beside(job, specs["backbone"], images)},
    }
    _look(asking["reader"], reader, options, "views")
    if queries is not None:
        tables["queries"] = _beside(job, specs["reader"], queries)
        _look(asking["reader"], reader, {**options, **queries}, "query views")
    registry().ref("backbone", backbone, images)
    command = [
        "crater-ray",
        "init",
        str(job),
        "--yes",
        "--reader",
        reader,
        "--backbone",
        backbone,
        "--out",
        out,
    ]
    command += chain.from_iterable(
        (option_of(name), as_typed(value))
        for kind, found in (("reader", {**options, **(queries or {})}), ("backbone", images))
        for name, value in found.items()
        if name in asking[kind].used
    )
    text = "\n".join(_text(job, out, specs, tables, asking["reader"].said, shlex.join(command)))
    job.parent.mkdir(parents=True, exist_ok=True)
    with job.open("x", encoding="utf-8") as file:
        file.write(text + "\n")
    click.echo(f"{job} is written; next: crater-ray plan {job}, then crater-ray index {job}")


def _reader(answers: Mapping[str, str], ask: bool) -> str:
    """The one reader that asks for all that is answered, else as the user says."""
    specs = registry().specs("reader")
    others = {q.name for spec in registry().specs("backbone").values() for q in questions_of(spec)}
    wanted = {name for name in answers if name not in others}
    fitting = [name for name, spec in specs.items() if wanted <= {q.name for q in questions_of(spec)}]
    if wanted and len(fitting) == 1:
        return fitting[0]
    if not ask:
        raise click.UsageError(f"--reader is needed: {', '.join(fitting or specs)}")
    for name, spec in specs.items():
        click.echo(f"  {name:<12} {spec.summary}", err=True)
    return str(
        click.prompt("What lists the images", type=click.Choice(list(specs)), show_choices=False, err=True)
    )


def _backbone(answers: Mapping[str, str], ask: bool) -> str:
    """Proposes one that declares its questions, and needs the fewest answers."""
    specs = registry().specs("backbone")

    def rank(name: str) -> tuple[bool, int, str]:
        fields = specs[name].options.model_fields.values()
        return not specs[name].questions, sum(field.is_required() for field in fields), name

    best = min(specs, key=rank)
    if not ask:
        return best
    for name, spec in specs.items():
        click.echo(f"  {name:<16} {spec.summary}", err=True)
    return str(
        click.prompt("Backbone", type=click.Choice(list(specs)), default=best, show_choices=False, err=True)
    )


def _beside(job: Path, spec: PluginSpec, options: dict[str, Any]) -> dict[str, Any]:
    """Options whose relative paths, typed in the current folder, are relative to the job file."""
    found = dict(options)
    for name in spec.options.files() & options.keys():
        if not Path(found[name]).is_absolute() and Path(found[name]).exists():
            found[name] = Path(os.path.relpath(found[name], job.parent)).as_posix()
    return found


def _look(asking: Asking, name: str, options: dict[str, Any], what: str) -> None:
    """Builds the reader, as the job will, and says what it lists. Raises ReaderError for nothing."""
    from crater_ray.images import pixels
    from crater_ray.plan import listed

    reader = registry().build(registry().ref("reader", name, options))
    found = listed(reader)
    first = next(chain.from_iterable(map(reader.read, reader.parts())))
    try:
        height, width, _ = pixels(reader.load(first.uri), MAX_PIXELS).shape
        shown = f"{first.id} is {width} × {height} pixels"
    except BadImage as error:
        shown = f"{first.id} cannot be used: {error}"
    about = "" if found.counted else "about "
    asking.say(f"{about}{found.views:,} {what} in {found.parts:,} part{'s' * (found.parts != 1)}; {shown}")
    if (columns := ", ".join(reader.columns.names)) and what == "views":
        asking.say(f"columns: {columns}")


def _text(
    job: Path,
    out: str,
    specs: Mapping[str, PluginSpec],
    tables: Mapping[str, dict[str, Any]],
    said: list[str],
    command: str,
) -> Iterator[str]:
    yield f"# {command}"
    yield f"# What it costs: crater-ray plan {job.name}. To encode, and to go on: crater-ray index {job.name}"
    yield f"\nout = {_toml(out)}  # a folder, or s3://bucket/folder"
    yield "\n[reader]"
    yield from (f"# {line}" for line in said)
    yield from _lines(tables["reader"], specs["reader"])
    if "queries" in tables:
        yield "\n[queries]  # as [reader], but for these: what `crater-ray evaluate` asks"
        yield from _lines(tables["queries"], specs["reader"])
    else:
        yield "\n# [queries]  # images that `crater-ray evaluate` asks with, as in [reader]"
        yield f"# name = {_toml(specs['reader'].name)}"
    yield "\n[backbone]"
    yield from _lines(tables["backbone"], specs["backbone"])
    yield "\n# These are the defaults: take the # away from a table's name and from what you change."
    from crater_ray.config import Job

    for name in SHOWN:
        table = Job.model_fields[name].default
        yield f"# [{name}]"
        yield from (
            f"# {key} = {_toml(value)}"
            for key, value in table.model_dump(mode="json").items()
            if value not in (None, {})
        )


def _lines(table: Mapping[str, Any], spec: PluginSpec) -> Iterator[str]:
    """A line for each key, what it is behind it, or above it where the line is long."""
    told = {question.name: question.text for question in questions_of(spec)} | {"name": spec.summary}
    for key, value in table.items():
        line, comment = f"{key} = {_toml(value)}", told.get(key)
        if comment and len(line) > WIDE:
            yield f"# {comment}:"
        yield f"{line:<{WIDE}}  # {comment}" if comment and len(line) <= WIDE else line


def _toml(value: Any) -> str:
    """Plain data as TOML: what JSON writes alike, and tables in one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)
