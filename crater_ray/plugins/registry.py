"""Finds plugins, keeps a broken one from breaking the rest, and builds what a job names.

Imports neither torch nor ray: a factory is imported in `build`, where it runs.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import traceback
import warnings
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pluggy
from pydantic import ValidationError

from crater_ray.errors import ConfigError, PluginError
from crater_ray.plugins import hookspecs
from crater_ray.plugins.labels import KINDS, Kind, Label, Options, Ref

ALLOWLIST = "CRATER_RAY_PLUGINS"  # unset: all; empty: none; "a,b": those distributions
CORE = "crater-ray"
BUILTIN_MODULE = "crater_ray.builtin"
Status = Literal["ok", "failed", "conflict", "disabled"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of `crater-ray plugins`."""

    kind: str  # of the label, or "-" for a plugin none of whose labels is known
    name: str
    distribution: str
    version: str
    path: str
    status: Status
    reason: str = ""
    summary: str = ""


@dataclass(frozen=True, slots=True)
class _Entry:
    label: Label
    kind: Kind
    module: str
    distribution: str
    version: str
    path: str


class Registry:
    """Every label there is, by kind and name, and a row for everything that could not be had."""

    def __init__(self, entries: list[_Entry], failed: list[Row]) -> None:
        self._failed = failed
        self._entries: dict[tuple[Kind, str], list[_Entry]] = {}
        for entry in entries:
            self._entries.setdefault((entry.kind, entry.label.name), []).append(entry)

    def rows(self) -> list[Row]:
        """All labels and all failures, sorted by kind and name."""
        rows = list(self._failed)
        for (kind, name), claims in self._entries.items():
            status: Status = "ok" if len(claims) == 1 else "conflict"
            reason = "" if len(claims) == 1 else _conflict(kind, name, claims)
            rows += [Row(kind, name, claim.distribution, claim.version, claim.path, status, reason,
                         claim.label.summary) for claim in claims]
        return sorted(rows, key=lambda row: (row.kind, row.name, row.distribution))

    def labels(self, kind: Kind) -> dict[str, Label]:
        """The usable labels of one kind by name."""
        return {name: claims[0].label for (k, name), claims in sorted(self._entries.items())
                if k == kind and len(claims) == 1}

    def find(self, kind: Kind, name: str, where: str = "") -> _Entry:
        """The one claim on a name. Raises PluginError for none (closest match first) or several."""
        claims = self._entries.get((kind, name), [])
        place = f" in {where}" if where else ""
        if len(claims) == 1:
            return claims[0]
        if claims:
            raise PluginError(_conflict(kind, name, claims) + place)
        known = [n for (k, n) in self._entries if k == kind]
        close = get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        broken = [f"{row.distribution} {row.version} failed to load ({row.reason})" for row in self._failed
                  if row.status == "failed"]
        note = "; " + "; ".join(broken) if broken and not close else ""
        raise PluginError(f"no {kind} is called {name!r}{place}; {hint}"
                          f"known: {', '.join(sorted(known)) or 'none'}{note}")

    def ref(self, kind: Kind, name: str, options: dict[str, Any] | None = None, *, base: Path | None = None,
            where: str = "") -> Ref:
        """A Ref with validated options, paths made absolute against `base`.

        Raises PluginError for an unknown name, ConfigError for options that do not hold; `where` names the
        place ("[reader] in moon.toml").
        """
        entry = self.find(kind, name, where)
        options = dict(options or {})
        model = _validated(entry.label.options, options, f"{where or kind} {name!r}")
        plain = model.model_dump(mode="json", exclude_unset=False)
        for key in model.files():
            if plain.get(key) is not None:
                path = Path(plain[key]).expanduser()
                plain[key] = str(path if path.is_absolute() else (base or Path.cwd()) / path)
        return Ref(kind, name, plain, entry.module, entry.distribution, entry.version)

    def build(self, ref: Ref, *args: Any) -> Any:
        """The object a Ref names: `factory(*args, **options)`.

        Raises PluginError when the package is missing here, has another version, or cannot be imported.
        """
        try:
            entry = self.find(ref.kind, ref.name)
        except PluginError as error:
            entry = self._fallback(ref, error)
        if (entry.distribution, entry.version) != (ref.distribution, ref.version):
            raise PluginError(
                f"{ref.kind} {ref.name!r} comes from {ref.distribution} {ref.version} where the job or index "
                f"was made, but from {entry.distribution} {entry.version} on node {platform.node()}; install "
                f"{ref.distribution}=={ref.version} there")
        model = _validated(entry.label.options, ref.options, f"{ref.kind} {ref.name!r}")
        factory = self.factory(entry)
        return factory(*args, **{key: getattr(model, key) for key in type(model).model_fields})

    def factory(self, entry: _Entry) -> Any:
        """The imported factory. Raises PluginError with the pip line when its import fails."""
        module, _, attribute = entry.label.factory.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise PluginError(
                f"{entry.kind} {entry.label.name!r} of {entry.distribution} {entry.version} cannot be "
                f"imported: {error}; try: pip install --force-reinstall {entry.distribution}") from error

    def _fallback(self, ref: Ref, cause: PluginError) -> _Entry:
        """On a worker that sees the module but not the entry points (working_dir, py_modules folder)."""
        if importlib.util.find_spec(ref.module.split(".")[0]) is None:
            raise PluginError(
                f"{ref.kind} {ref.name!r} needs {ref.distribution} {ref.version}, which node "
                f"{platform.node()} does not have; try: "
                f"pip install {ref.distribution}=={ref.version}") from cause
        for kind, label in _collect(importlib.import_module(ref.module)):
            if (kind, label.name) == (ref.kind, ref.name):
                return _Entry(label, kind, ref.module, ref.distribution, ref.version, "")
        raise cause


@cache
def registry() -> Registry:
    """The registry of this process; read once. `registry.cache_clear()` reads again."""
    entries = _entries_of(importlib.import_module(BUILTIN_MODULE), CORE, _version(CORE))
    taken = {(entry.kind, entry.label.name) for entry in entries}
    failed: list[Row] = []
    allowed = _allowlist()
    seen: set[tuple[str, str]] = set()
    names: set[str] = set()
    for point in importlib.metadata.entry_points(group=hookspecs.GROUP):
        distribution = point.dist.name if point.dist else "?"
        version = point.dist.version if point.dist else "?"
        path = str(point.dist.locate_file("")) if point.dist else ""
        names.add(_normal(distribution))
        if (distribution, point.name) in seen:
            continue  # a second copy further down sys.path is shadowed, as imports are
        seen.add((distribution, point.name))
        if allowed is not None and _normal(distribution) not in allowed:
            failed.append(Row("-", point.name, distribution, version, path, "disabled",
                              f"not in {ALLOWLIST}"))
            continue
        try:
            found = _entries_of(point.load(), distribution, version, path)
            for entry in found:
                if (entry.kind, entry.label.name) in taken:
                    raise ValueError(f"{entry.kind} {entry.label.name!r} is a name of {CORE} itself")
            entries += found
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # any plugin may fail in any way, sys.exit included; the text is kept
            reason = _reason(error)
            failed.append(Row("-", point.name, distribution, version, path, "failed", reason))
            warnings.warn(f"plugin {distribution} {version} is not usable: {reason}", stacklevel=2)
    for name in sorted((allowed or set()) - names):
        warnings.warn(f"{ALLOWLIST} names {name!r}, which is not installed", stacklevel=2)
    return Registry(entries, failed)


def _entries_of(plugin: object, distribution: str, version: str, path: str = "") -> list[_Entry]:
    module = plugin.__name__ if isinstance(plugin, ModuleType) else type(plugin).__module__
    where = path or str(Path(__file__).parents[2])
    return [_Entry(label, kind, module, distribution, version, where) for kind, label in _collect(plugin)]


def _collect(plugin: object) -> list[tuple[Kind, Label]]:
    """All labels of one plugin, or an error: never half of them."""
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs)
    if manager.register(plugin) is None:
        raise ValueError("the entry point gives no plugin")
    manager.check_pending()
    labels: list[tuple[Kind, Label]] = []
    for kind in KINDS:
        for answer in getattr(manager.hook, f"register_{kind}s")():
            for label in answer:
                if not isinstance(label, Label):
                    raise TypeError(
                        f"register_{kind}s yields {type(label).__name__}, not crater_ray.plugins.Label")
                labels.append((kind, label))
    if not labels:
        raise ValueError(f"it implements none of {', '.join(f'register_{kind}s' for kind in KINDS)}")
    names = [(kind, label.name) for kind, label in labels]
    twice = next((pair for pair in names if names.count(pair) > 1), None)
    if twice:
        raise ValueError(f"it registers {twice[0]} {twice[1]!r} twice")
    return labels


def _validated(model: type[Options], options: dict[str, Any], where: str) -> Options:
    try:
        return model(**options)
    except ValidationError as error:
        raise ConfigError(f"{where}: {explain(error, model)}") from None


def explain(error: ValidationError, model: type[Any]) -> str:
    """A pydantic error in one line, with the closest known key for an unknown one."""
    lines = []
    for problem in error.errors(include_url=False):
        place = ".".join(str(step) for step in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = list(model.model_fields)
            close = get_close_matches(str(problem["loc"][-1]), known, 1)
            lines.append(f"unknown option {place!r}; " + (f"did you mean {close[0]!r}? " if close else "")
                         + f"known: {', '.join(known) or 'none'}")
        else:
            message = f"{problem['msg'][:1].lower()}{problem['msg'][1:]} (got {problem['input']!r})"
            lines.append(f"{place} is required" if problem["type"] == "missing" else f"{place}: {message}")
    return "; ".join(lines)


def _conflict(kind: str, name: str, claims: list[_Entry]) -> str:
    owners = " and ".join(f"{claim.distribution} {claim.version}" for claim in claims)
    return f"{kind} {name!r} is claimed by {owners}; uninstall one, or choose with {ALLOWLIST}"


def _reason(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" ({Path(last[0].filename).name}:{last[0].lineno})" if last else ""
    return f"{type(error).__name__}: {str(error) or 'no message'}".splitlines()[0] + place


def _allowlist() -> set[str] | None:
    text = os.environ.get(ALLOWLIST)
    return None if text is None else {_normal(name) for name in text.split(",") if name.strip()}


def _normal(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(".", "-")


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "0+uninstalled"
