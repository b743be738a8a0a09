"""A job file as plain data, and what its tables have in common: for index jobs, and for those of plugins."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from crater_ray.errors import ConfigError


class Table(BaseModel):
    """A table whose keys are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PluginTable(BaseModel):
    """A table that names a plugin; the keys it does not know are the plugin's options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


def url_of(path: Path) -> str | None:
    """The address that a path was made of, such as s3://bucket/folder; None for a folder.

    Raises ConfigError for an address of any other kind.
    """
    found = re.match(r"([a-z][a-z0-9+]+):/+(?!/)", path.as_posix())
    if found is None:
        return None
    if found[1] != "s3":
        raise ConfigError(f"{path}: an index lies in a folder or on s3://bucket/folder, not on {found[1]}://")
    return f"s3://{path.as_posix()[found.end() :]}"


def told(path: Path) -> str:
    """A path, or the address it was made of, as people write it."""
    return url_of(path) or str(path)


def read(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What a TOML file says, with `a.b=value` overrides applied; a number steps into a list of tables.

    Raises ConfigError for a missing or malformed file, and for an override that does not parse.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the job file {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    for text in overrides:
        _override(raw, text)
    return raw


def _override(raw: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    steps = key.strip().split(".")
    if not equals or not all(steps):
        raise ConfigError(f"--set {text!r}: write it as table.key=value, as in --set rerank.codec=int2")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value  # a bare word is a string
    table: Any = raw
    for step in steps[:-1]:
        if isinstance(table, list):
            if not (step.isdigit() and int(step) < len(table)):
                raise ConfigError(f"--set {text!r}: {step} is none of the {len(table)} tables there")
            table = table[int(step)]
        else:
            table = table.setdefault(step, {})
        if not isinstance(table, dict | list):
            raise ConfigError(f"--set {text!r}: {step} is a value, not a table")
    if not isinstance(table, dict):
        raise ConfigError(f"--set {text!r}: name a key of one of the {len(table)} tables there")
    table[steps[-1]] = parsed
