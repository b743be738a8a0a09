"""A job file as plain data, and what its tables have in common: for index jobs, and for those of plugins."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from pydantic import ConfigDict

from crater_ray.errors import ConfigError
from crater_ray.used import Used


class Table(Used):
    """A table whose keys are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PluginTable(Used):
    """A table that names a plugin; the keys it does not know are the plugin's options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


def url_of(address: str | Path) -> str | None:
    """An address such as s3://bucket/folder, also of a Path that was made of it; None for a folder.

    Raises ConfigError for an address of any other kind.
    """
    text = str(address)
    found = re.match(r"([a-z][a-z0-9+]+):/+(?!/)", text)
    if found is None:
        return None
    if found[1] != "s3":
        raise ConfigError(f"{text}: an index lies in a folder or on s3://bucket/folder, not on {found[1]}://")
    return f"s3://{text[found.end() :].rstrip('/')}"


def is_job(path: Path) -> bool:
    """Whether a path that may be an index's or a job file's is a job file's."""
    return path.suffix == ".toml" and not path.is_dir()


def told(path: Path) -> str:
    """A path, or the address it was made of, as people write it."""
    return url_of(path) or str(path)


def read(source: Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What a TOML file says, or its tables as a dict, with `a.b=value` overrides applied.

    In an override a number steps into a list of tables.

    A file with `base = "other.toml"`, beside it, says what that says but for its own keys, table by table;
    `[scenes.1]` is the second of the base's `[[scenes]]`, or one more.

    Raises ConfigError for a missing or malformed file or base, and for an override that does not parse.
    """
    raw = _plain(source) if isinstance(source, Mapping) else _with_base(source, ())
    for text in overrides:
        _override(raw, text)
    return raw


def _plain(value: Any) -> Any:
    """A copy as TOML would have it: paths are text, sequences lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, PurePath) else value


def _with_base(path: Path, above: tuple[str, ...]) -> dict[str, Any]:
    """`above`: names of the files that this one is the base of."""
    raw = _toml(path)
    base = raw.pop("base", None)
    if base is None:
        return raw
    if not isinstance(base, str) or Path(base).name != base:
        raise ConfigError(
            f"base in {path.name} is {base!r}; name a file in the same folder, against which both read paths"
        )
    if base in (*above, path.name):
        raise ConfigError(f"base in {path.name} is {base}, which is based on {path.name} itself")
    merged: dict[str, Any] = _merged(_with_base(path.parent / base, (*above, path.name)), raw, path.name)
    return merged


def _merged(base: Any, own: Any, name: str) -> Any:
    """What `own` says, and where it says nothing what `base` does."""
    if isinstance(base, list) and isinstance(own, dict):
        tables = list(base)
        for key in sorted(own, key=lambda key: (not key.isdigit(), len(key), key)):  # 2 before 10
            if not key.isdigit() or int(key) > len(tables):
                raise ConfigError(
                    f"{name}: {key} is none of the {len(tables)} tables of its base, nor the next"
                )
            at = int(key)
            tables[at:] = [_merged(tables[at] if at < len(tables) else {}, own[key], name), *tables[at + 1 :]]
        return tables
    if not (isinstance(base, dict) and isinstance(own, dict)):
        return own
    return {**base, **{key: _merged(base.get(key), value, name) for key, value in own.items()}}


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder; a job file is asked for: name a .toml file") from None
    except OSError as error:
        raise ConfigError(f"cannot read the job file {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None


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
