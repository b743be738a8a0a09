"""Every command that a page shows exists, and so does every option of it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from crater_ray.cli import app

sys.path.append(str(Path(__file__).parents[2] / "docs"))

from blocks import ROOT, Block, blocks, commands, spans

SHELL = [block for block in blocks("sh", "console", "") if any(commands(block))]
OPTION = re.compile(r"--[a-z][a-z-]*")
OTHERS = {"--no-deps", "--strict"}  # of pip and mkdocs
TEMPLATE = "template-hello"  # of plugins/template, which is installed under another name only


def every_command(group: click.Group, context: click.Context) -> Iterator[click.Command]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield command
        if isinstance(command, click.Group):
            yield from every_command(command, click.Context(command, parent=context, info_name=name))


def refused(words: list[str], whole: bool = True) -> str:
    """Why click would refuse the arguments, or nothing. Files need not exist; with `whole`, none may lack."""
    command: click.Command = app
    context = click.Context(app, info_name="crater-ray")
    try:
        while True:
            given, rest, order = command.make_parser(context).parse_args(list(words))
            for parameter in order if not whole else command.get_params(context):
                value = given.get(parameter.name or "")
                if value is None or parameter.value_is_missing(value):
                    if parameter.required and whole:
                        return f"{command.name}: {parameter.name} is missing"
                elif not isinstance(parameter.type, click.Path | click.File):
                    _convert(parameter, value, context)
            if not isinstance(command, click.Group):
                return f"{command.name} takes no {rest[0]!r}" if rest else ""
            if not rest:
                return ""
            inside = command.get_command(context, rest[0])
            if inside is None:
                return f"there is no command {rest[0]!r}"
            command, words = inside, rest[1:]
            context = click.Context(inside, info_name=rest[0], parent=context)
    except click.UsageError as error:
        return error.format_message()


def _convert(parameter: click.Parameter, value: object, context: click.Context) -> None:
    placeholder = isinstance(value, str) and re.fullmatch(r"[A-Z]|[A-Z.]{2,}|…", value)
    if not placeholder:
        parameter.type_cast_value(context, value)


def is_ours(words: list[str]) -> bool:
    return words[0].rpartition("/")[2] == "crater-ray"


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_a_block_s_commands_exist(block: Block) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for words in commands(block):
        if is_ours(words) and words[1:] != [TEMPLATE]:
            assert not refused(words[1:]), " ".join(words)
        elif words[0] == "make":
            targets = [word for word in words[1:] if "=" not in word]
            assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets), words
        elif words[0] == "python" and words[1].endswith(".py"):
            written = f"# {words[1]}\n"
            assert (
                (ROOT / words[1]).is_file()
                or (block.page.parent / words[1]).is_file()
                or (ROOT / "plugins" / "template" / words[1]).is_file()
                or written in block.page.read_text(encoding="utf-8")
            ), words
        elif words[0] == "pip" or words[:3] == ["python", "-m", "pip"]:
            folders = [word.removeprefix("./") for word in words if "plugins/" in word]
            assert all((ROOT / folder / "pyproject.toml").is_file() for folder in folders), words


def test_the_examples_of_help_are_commands() -> None:
    context = click.Context(app, info_name="crater-ray")
    shown = [line for command in every_command(app, context) for line in (command.epilog or "").splitlines()]
    lines = [line.strip() for line in shown if line.startswith("  crater-ray ")]
    assert len(lines) >= 5
    for line in lines:
        (words,) = commands(Block(Path(__file__), 1, "sh", line))
        assert not refused(words[1:]), line


def test_commands_and_options_within_the_text_exist() -> None:
    context = click.Context(app, info_name="crater-ray")
    known = {
        option
        for command in [app, *every_command(app, context)]
        for parameter in command.params
        for option in parameter.opts
    }
    known |= {"--help", *OTHERS}
    for script in (ROOT / "benchmarks").glob("*.py"):
        known |= set(OPTION.findall(script.read_text(encoding="utf-8")))
    wrong = []
    for span in spans():
        if span.text.startswith("crater-ray "):
            text = span.text.replace("[", "").replace("]", "")
            words = next(commands(Block(span.page, span.line, "sh", text)))  # JOB|FOLDER: two commands to sh
            reason = refused(words[1:], whole=False)
            wrong += [f"{span}: {reason}"] if reason else []
        elif span.text.startswith("--") and (found := OPTION.match(span.text)):
            wrong += [] if found[0] in known else [f"{span}: {found[0]}"]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["query", "moon", "--nonsense"], "No such option"),
        (["nonsense"], "there is no command"),
        (["query"], "index is missing"),
        (["query", "moon", "--top", "0"], "0 is not in the range"),
        (["evaluate", "moon.toml", "--mode", "fast"], "'fast' is not one of"),
        (["compact", "moon", "mars"], "compact takes no 'mars'"),
    ],
)
def test_what_is_wrong_is_found(words: list[str], why: str) -> None:
    assert why in refused(words)
