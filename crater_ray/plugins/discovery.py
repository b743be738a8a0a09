"""What is installed: every plugin's specs, and the status of each plugin that cannot be had.

A plugin is loaded in its own `try`: all of its specs count, or none. Imports no factory.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Literal

import pluggy

from crater_ray.plugins import hookspecs
from crater_ray.plugins.specs import KINDS, Kind, PluginSpec

ALLOWLIST = "CRATER_RAY_PLUGINS"  # unset: all; empty: none; "a,b": those distributions
CORE = "crater-ray"
BUILTIN_MODULE = "crater_ray.builtin"
HOOKS = ", ".join(f"register_{kind}s" for kind in KINDS)
Status = Literal["ok", "failed", "conflict", "disabled", "incompatible"]


@dataclass(frozen=True, slots=True)
class PluginStatus:
    """One line of `crater-ray plugins`."""

    kind: str  # of the spec, or "-" for a plugin none of whose specs is known
    name: str
    distribution: str
    version: str
    path: str
    status: Status
    reason: str = ""
    summary: str = ""
    seam: int | None = None  # that it is written for, where that is known


@dataclass(frozen=True, slots=True)
class Entry:
    """One spec and who registered it."""

    spec: PluginSpec
    kind: Kind
    module: str
    distribution: str
    version: str
    path: str


class _OtherSeam(Exception):
    """A plugin written for another version of the seam, or for none that it names."""

    def __init__(self, module: str, seam: int | None) -> None:
        declared = "none" if seam is None else seam
        mend = "add it" if seam is None else "install a release of the plugin for that version"
        super().__init__(
            f"crater-ray here needs `crater_ray_seam = {hookspecs.SEAM}` in {module}, "
            f"which declares {declared}; {mend}"
        )
        self.seam = seam


@dataclass(frozen=True, slots=True)
class _Installed:
    distribution: str
    version: str
    path: str
    points: list[importlib.metadata.EntryPoint]
    fault: str = ""  # of its metadata


def discover() -> tuple[list[Entry], list[PluginStatus]]:
    """Everything usable, and a row for every plugin that is disabled or failed; warns of each failure."""
    builtin = importlib.import_module(BUILTIN_MODULE)
    entries = _entries_of(builtin, CORE, _version(CORE), str(Path(__file__).parents[2]))
    own = {(entry.kind, entry.spec.name) for entry in entries}
    rows: list[PluginStatus] = []
    allowed = _allowlist()
    names: set[str] = set()
    for found in _installed():
        if normal(found.distribution) in names:
            continue  # a second copy further down sys.path is shadowed, as imports are
        names.add(normal(found.distribution))
        if allowed is not None and normal(found.distribution) not in allowed:
            rows.append(_status(found, "disabled", f"not in {ALLOWLIST}"))
            continue
        try:
            entries += _load(found, own)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except _OtherSeam as error:
            rows.append(replace(_status(found, "incompatible", str(error)), seam=error.seam))
            _warn(found, rows[-1].reason)
        except BaseException as error:  # it may fail in any way, sys.exit included; the text is kept
            rows.append(_status(found, "failed", _reason(error)))
            _warn(found, rows[-1].reason)
    for name in sorted((allowed or set()) - names):
        warnings.warn(f"{ALLOWLIST} names {name!r}, which is not installed", stacklevel=2)
    return entries, rows


def collect(plugin: object) -> list[tuple[Kind, PluginSpec]]:
    """All specs of one plugin module. Raises for a plugin that breaks any promise: never half of it."""
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs)
    if not isinstance(plugin, ModuleType):  # a worker finds it again by its module's name
        raise TypeError(f"the entry point gives a {type(plugin).__name__}, not the module of the hooks")
    seam = vars(plugin).get("crater_ray_seam")
    if seam != hookspecs.SEAM:
        raise _OtherSeam(plugin.__name__, seam)
    try:
        manager.register(plugin)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        said = " ".join(str(error).partition(" in plugin <")[0].split())  # without the module's path
        raise ValueError(f"{said}; the hooks are {HOOKS}, without arguments") from None
    specs: list[tuple[Kind, PluginSpec]] = []
    for kind in KINDS:
        for answer in getattr(manager.hook, f"register_{kind}s")():
            for spec in answer:
                if not isinstance(spec, PluginSpec):
                    raise TypeError(
                        f"register_{kind}s yields {type(spec).__name__}, not crater_ray.plugins.PluginSpec"
                    )
                specs.append((kind, spec))
    if not specs:
        raise ValueError(f"it registers nothing; the hooks are {HOOKS}")
    names = [(kind, spec.name) for kind, spec in specs]
    twice = next((pair for pair in names if names.count(pair) > 1), None)
    if twice:
        raise ValueError(f"it registers {twice[0]} {twice[1]!r} twice")
    return specs


def _installed() -> Iterator[_Installed]:
    """The distributions with entry points of ours, in the order of sys.path.

    Not `entry_points(group=…)`: one distribution with broken metadata makes that raise for all.
    """
    for found in importlib.metadata.distributions():
        text = found.read_text("entry_points.txt") or ""
        if f"[{hookspecs.GROUP}]" not in text:
            continue
        path = str(found.locate_file(""))
        try:
            points = list(found.entry_points.select(group=hookspecs.GROUP))
            told = {key.lower(): found.metadata[key] for key in found.metadata}  # nothing without METADATA
            name, version = told.get("name"), told.get("version")
            if not name or not version:
                raise ValueError("no name or version")
            yield _Installed(name, version, path, points)
        except Exception as error:  # any text may stand in those files; its own row says what was wrong
            folder = Path(str(getattr(found, "_path", path))).name
            yield _Installed(folder, "?", path, [], f"its metadata cannot be read: {_reason(error)}")


def _load(found: _Installed, own: set[tuple[Kind, str]]) -> list[Entry]:
    if found.fault:
        raise ValueError(found.fault)
    entries = [
        entry
        for point in found.points
        for entry in _entries_of(point.load(), found.distribution, found.version, found.path)
    ]
    for entry in entries:
        if (entry.kind, entry.spec.name) in own:
            raise ValueError(f"{entry.kind} {entry.spec.name!r} is a name of {CORE} itself")
    return entries


def _entries_of(plugin: object, distribution: str, version: str, path: str) -> list[Entry]:
    return [
        Entry(spec, kind, str(getattr(plugin, "__name__", "")), distribution, version, path)
        for kind, spec in collect(plugin)
    ]


def _status(found: _Installed, status: Status, reason: str) -> PluginStatus:
    name = found.points[0].name if found.points else found.distribution
    return PluginStatus("-", name, found.distribution, found.version, found.path, status, reason)


def _warn(found: _Installed, reason: str) -> None:
    warnings.warn(f"plugin {found.distribution} {found.version} is not usable: {reason}", stacklevel=3)


def _reason(error: BaseException) -> str:
    """The error in one line, with the last place in code that is not ours or the import system's."""
    ours = tuple(f"{Path(str(module.__file__)).parent}{os.sep}" for module in (hookspecs, pluggy, importlib))
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((*ours, "<frozen"))
    ]
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {str(error) or 'no message'}".splitlines()[0] + place


def _allowlist() -> set[str] | None:
    text = os.environ.get(ALLOWLIST)
    return None if text is None else {normal(name) for name in text.split(",") if name.strip()}


def normal(name: str) -> str:
    """A distribution's name as all of its spellings have it."""
    return name.strip().lower().replace("_", "-").replace(".", "-")


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "0+uninstalled"
