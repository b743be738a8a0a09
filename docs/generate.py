"""Writes the generated pages of docs/reference from the code; --check says what is out of date, exit 1."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import http_routes
import inputs
import job_file
import notebook
import python_api
from pydantic_core import PydanticUndefined

from crater_ray.cli import app
from crater_ray.plugins import KINDS, Options, registry
from crater_ray.plugins.public import PUBLIC

DOCS = Path(__file__).parent / "reference"
PACKAGES = ("mosaic", "catalogue", "colmap", "supscene", "offline", "moon", "craterbench")
OPTIONS = (
    "What an option means stands in the README of its package: "
    + ", ".join(f"[{name}](../../plugins/crater-ray-{name}/README.md)" for name in PACKAGES)
    + ".\n"
)
COMPLETION = (
    'Completion by the tab key: `eval "$(_CRATER_RAY_COMPLETE=bash_source crater-ray)"` in `~/.bashrc`,\n'
    'or `eval "$(_CRATER_RAY_COMPLETE=zsh_source crater-ray)"` in `~/.zshrc`.\n'
)
NOTE = "<!-- Written by `make fix` from the code; `make check` compares. -->\n"


def commands() -> str:
    """Every command's help text."""
    context = click.Context(app, info_name="crater-ray", max_content_width=100)
    pages = [f"# Commands\n\n{NOTE}\n{COMPLETION}\n```\n{app.get_help(context)}\n```\n"]
    return "\n".join([*pages, *_pages(app, context, "")])


def _pages(group: click.Group, context: click.Context, before: str) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            continue
        inside = click.Context(command, info_name=name, parent=context, max_content_width=100)
        yield f"## {before}{name}\n\n```\n{command.get_help(inside)}\n```\n"
        if isinstance(command, click.Group):
            yield from _pages(command, inside, f"{before}{name} ")


def plugins() -> str:
    """Every spec and its options, by kind."""
    pages = [f"# Readers, backbones, aggregators, consumers\n\n{NOTE}\n{OPTIONS}"]
    found = registry()
    for kind in KINDS:
        pages.append(
            f"\n## {kind.capitalize()}s\n\n| name | package | what it is | options (default) |\n"
            "|---|---|---|---|\n"
        )
        for name, spec in found.specs(kind).items():
            package = found.find(kind, name).distribution
            what = (
                spec.summary if spec.whiten else f"{spec.summary}; `[shortlist] whiten` is false unless said"
            )
            pages.append(f"| `{name}` | {package} | {what} | {_options(spec.options)} |\n")
    pages.append(
        "\n## What a plugin may import of crater-ray\n\n"
        "These modules and the names of `crater_ray` itself. Nothing else is promised.\n\n"
        "| module | what it holds |\n|---|---|\n"
    )
    pages += [f"| `{module}` | {what} |\n" for module, what in PUBLIC.items()]
    return "".join(pages)


def _options(model: type[Options]) -> str:
    shown = []
    for name, field in model.model_fields.items():
        required = field.default is PydanticUndefined and field.default_factory is None
        default = field.get_default(call_default_factory=True)
        shown.append(
            f"`{name}`" + (" (required)" if required else f" ({'none' if default is None else default})")
        )
    return ", ".join(shown).replace("|", "\\|") or "none"


def page(title: str, text: str) -> str:
    return f"# {title}\n\n{NOTE}\n{text}"


def main() -> None:
    stale = []
    for path, text in (
        (DOCS / "commands.md", commands()),
        (DOCS / "plugins.md", plugins()),
        (DOCS / "job-file.md", page("The job file", job_file.markdown())),
        (DOCS / "http.md", page("HTTP", http_routes.markdown())),
        (DOCS / "python.md", page("Python API", python_api.markdown())),
        *((book.with_suffix(".md"), notebook.markdown(book)) for book in notebook.NOTEBOOKS),
        (
            DOCS / "inputs.md",
            page("Inputs", f"Every row is tried by tests/test_inputs.py.\n{inputs.markdown()}"),
        ),
    ):
        if "--check" in sys.argv:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(path.relative_to(DOCS.parent.parent).as_posix())
        else:
            path.write_text(text, encoding="utf-8")
    if stale:
        sys.exit(f"out of date: {', '.join(stale)}; run `make fix`")


if __name__ == "__main__":
    main()
