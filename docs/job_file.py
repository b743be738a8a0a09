"""docs/reference/job-file.md: every table of a job and its options, with the comments of their fields."""

from __future__ import annotations

import io
import tokenize
from inspect import getsource
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from crater_ray.config import Job

PLUGINS = {"reader": "readers", "queries": "readers", "backbone": "backbones"}


def markdown() -> str:
    """The tables, without a heading of their own."""
    parts = [
        'A job is a TOML file. Paths are relative to it. `base = "other.toml"` at its top takes the keys of\n'
        "another file, but for those given here. `--set table.option=value` on the command line replaces\n"
        "one value.\n"
    ]
    parts += [
        "\n## Top level\n",
        _rows(Job, {name: field for name, field in Job.model_fields.items() if name == "out"}),
    ]
    for name, field in Job.model_fields.items():
        model = next(
            (kind for kind in (*get_args(field.annotation), field.annotation) if _is_table(kind)), None
        )
        if model is None:
            continue
        parts.append(f"\n## [{name}]\n")
        if said := (model.__doc__ or "").partition(": ")[2]:
            parts.append(f"\n{said[0].upper()}{said[1:]}\n")
        if "name" in model.model_fields:
            kind = PLUGINS.get(name, "aggregators")
            parts.append(f"\nTakes the options of the plugin `name` too: [{kind}](plugins.md#{kind}).\n")
        parts.append(_rows(model, model.model_fields))
    parts.append("\n## [consume.NAME]\n\nThe options of consumer NAME: [consumers](plugins.md#consumers).\n")
    return "".join(parts)


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _rows(model: type[BaseModel], fields: dict[str, FieldInfo]) -> str:
    said = comments(model)
    lines = ["\n| option | default | |\n|---|---|---|\n"]
    for name, field in fields.items():
        default = "required" if field.is_required() else _toml(field.get_default(call_default_factory=True))
        comment = said.get(name, "").replace("|", "\\|")
        if get_origin(field.annotation) is Literal:
            choices = ", ".join(f"`{choice}`" for choice in get_args(field.annotation))
            comment = f"{choices}; {comment}" if comment else choices
        lines.append(f"| `{name}` | {default} | {comment} |\n")
    return "".join(lines)


def _toml(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    return f"`{value}`" if value != {} else "none"


def comments(model: type[BaseModel]) -> dict[str, str]:
    """The comment at or above each field of the model, by the field's name."""
    found: dict[str, str] = {}
    name, above, depth = "", "", 0
    fresh = True
    for token in tokenize.generate_tokens(io.StringIO(getsource(model)).readline):
        if token.type == tokenize.COMMENT:
            text = token.string.lstrip("# ").strip()
            if fresh:
                above = f"{above} {text}".strip()
            else:
                found[name] = text
        elif token.type in (tokenize.NEWLINE, tokenize.NL):
            fresh = depth == 0
        elif token.type == tokenize.NAME and fresh:
            name, fresh = token.string, False
            if above:
                found[name] = above
            above = ""
        elif token.type == tokenize.OP:
            depth += (token.string in "([{") - (token.string in ")]}")
            fresh = False
    return found
