"""Names to objects: checks what a job names, makes the PluginRef that travels, and builds it where it runs.

Imports neither torch nor ray: a factory is imported in `build`.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from crater_ray.errors import ConfigError, PluginError
from crater_ray.plugins.discovery import ALLOWLIST, CORE, Entry, PluginStatus, Status, collect, discover
from crater_ray.plugins.hookspecs import SEAM
from crater_ray.plugins.paths import absolute
from crater_ray.plugins.protocols import Asymmetric, Cuts, Fitted, LoadsMany, Located
from crater_ray.plugins.specs import Kind, Options, PluginRef, PluginSpec
from crater_ray.types import TokenShape

__all__ = ["ALLOWLIST", "CORE", "PluginStatus", "Registry", "absolute", "explain", "registry"]


Elsewhere = Callable[[str], Sequence[str]]  # an option's name to the places where it may stand


def nowhere(option: str) -> Sequence[str]:
    """The places of an option that no other table knows."""
    return ()


class Registry:
    """Every spec there is, by kind and name, and a status for everything that could not be had."""

    def __init__(self, entries: list[Entry], failed: list[PluginStatus]) -> None:
        self._failed = failed
        self._entries: dict[tuple[Kind, str], list[Entry]] = {}
        for entry in entries:
            self._entries.setdefault((entry.kind, entry.spec.name), []).append(entry)

    def statuses(self) -> list[PluginStatus]:
        """All specs and all failures, sorted by kind and name."""
        rows = list(self._failed)
        for (kind, name), claims in self._entries.items():
            status: Status = "ok" if len(claims) == 1 else "conflict"
            reason = "" if len(claims) == 1 else _conflict(kind, name, claims)
            rows += [
                PluginStatus(
                    kind,
                    name,
                    claim.distribution,
                    claim.version,
                    claim.path,
                    status,
                    reason,
                    claim.spec.summary,
                    SEAM,
                )
                for claim in claims
            ]
        return sorted(rows, key=lambda row: (row.kind, row.name, row.distribution))

    def specs(self, kind: Kind) -> dict[str, PluginSpec]:
        """The usable specs of one kind by name."""
        return {
            name: claims[0].spec
            for (k, name), claims in sorted(self._entries.items())
            if k == kind and len(claims) == 1
        }

    def packages(self) -> dict[str, str]:
        """The plugins, `name version`, by the top-level packages of their code; not the core."""
        found: dict[str, str] = {}
        for claims in self._entries.values():
            for claim in claims:
                for module in (claim.module, claim.spec.factory):
                    package = module.partition(":")[0].partition(".")[0]
                    if package != __name__.partition(".")[0]:
                        found[package] = f"{claim.distribution} {claim.version}"
        return found

    def find(self, kind: Kind, name: str, where: str = "") -> Entry:
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
        broken = [f"{row.distribution} {row.version} {_verb(row)} ({row.reason})" for row in self._failed]
        note = "; " + "; ".join(broken) if broken else ""
        raise PluginError(
            f"no {kind} is called {name!r}{place}; {hint}known: {', '.join(sorted(known)) or 'none'}{note}"
        )

    def ref(
        self,
        kind: Kind,
        name: str,
        options: dict[str, Any] | None = None,
        *,
        base: Path | None = None,
        where: str = "",
        words: Iterable[str] = (),
        elsewhere: Elsewhere = nowhere,
    ) -> PluginRef:
        """A PluginRef with validated options, paths made absolute against `base`.

        Raises PluginError for an unknown name, ConfigError for options that do not hold; `where` names the
        place ("[reader] in moon.toml") and `words` the keys that the job file itself knows there; `elsewhere`
        says in which places of the job an option may stand.
        """
        entry = self.find(kind, name, where)
        model = _validated(
            entry.spec.options, dict(options or {}), f"{where or kind} {name!r}", words, elsewhere
        )
        plain = model.model_dump(mode="json")
        for key in model.files():
            plain[key] = _absolute_all(plain[key], base or Path.cwd())
        return PluginRef(
            kind,
            name,
            plain,
            entry.module,
            entry.distribution,
            entry.version,
            entry.spec.algorithm_version,
        )

    def build(self, ref: PluginRef, *args: Any) -> Any:
        """The object a PluginRef names: `factory(*args, **options)`.

        Raises PluginError when the package is missing here, has another version, or cannot be imported.
        """
        entry = self._entry(ref)
        if (entry.distribution, entry.version) != (ref.distribution, ref.version):
            raise PluginError(
                f"{ref.kind} {ref.name!r} comes from {ref.distribution} {ref.version} where the job or index "
                f"was made, but from {entry.distribution} {entry.version} on node {platform.node()}; install "
                f"{ref.distribution}=={ref.version} there"
            )
        model = _validated(entry.spec.options, ref.options, f"{ref.kind} {ref.name!r}")
        _check_shape(entry, args)
        factory = self.factory(entry)
        built = factory(*args, **{key: getattr(model, key) for key in type(model).model_fields})
        check_promises(entry, built)
        return built

    def spec(self, ref: PluginRef) -> PluginSpec:
        """What the plugin registered under that name. Raises PluginError where it is missing."""
        return self._entry(ref).spec

    def current(self, ref: PluginRef) -> PluginRef:
        """The PluginRef as this installation spells it: any release that computes the same will do.

        Raises PluginError for another algorithm version or another distribution of that name.
        """
        if (ref.kind, ref.name) not in self._entries:
            return ref  # `build` says what is missing
        entry = self.find(ref.kind, ref.name)
        here = f"{entry.distribution} {entry.version}"
        made = f"{ref.kind} {ref.name!r} of the index is of {ref.distribution} {ref.version}"
        other = "or index again into another `out`"
        if entry.distribution != ref.distribution:
            raise PluginError(f"{made}, and here is {here}; install {ref.distribution}, {other}")
        if entry.spec.algorithm_version != ref.algorithm_version:
            raise PluginError(
                f"{made}, algorithm version {ref.algorithm_version}, and {here} has "
                f"{entry.spec.algorithm_version}; install '{ref.distribution}=={ref.version}', {other}"
            )
        return replace(ref, module=entry.module, version=entry.version)

    def chosen(self, ref: PluginRef) -> PluginRef:
        """The PluginRef with those options alone that differ from their defaults.

        For keys of caches and comparisons, which an option that a plugin gains should not upset. A release
        that changes a default changes bytes, so it raises the algorithm version, which the key has too.
        """
        if (ref.kind, ref.name) not in self._entries:
            return ref
        fields = self.find(ref.kind, ref.name).spec.options.model_fields
        usual = {
            name: json.loads(json.dumps(field.get_default(call_default_factory=True), default=str))
            for name, field in fields.items()
            if not field.is_required()
        }
        left = {key: value for key, value in ref.options.items() if key not in usual or value != usual[key]}
        return replace(ref, options=left)

    def factory(self, entry: Entry) -> Any:
        """The imported factory. Raises PluginError with the pip line when its import fails in any way."""
        return self.load(entry, entry.spec.factory)

    def load(self, entry: Entry, where: str) -> Any:
        """What "package.module:name" names in a plugin's package. Raises as `factory` does."""
        module, _, attribute = where.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (Exception, SystemExit) as error:  # a plugin's module may run anything; the text is kept
            raise PluginError(
                f"{entry.kind} {entry.spec.name!r} of {entry.distribution} {entry.version} cannot be "
                f"imported: {type(error).__name__}: {error}; try: pip install --force-reinstall "
                f"{entry.distribution}"
            ) from error

    def _entry(self, ref: PluginRef) -> Entry:
        known = (ref.kind, ref.name) in self._entries
        return self.find(ref.kind, ref.name) if known else self._fallback(ref)

    def _fallback(self, ref: PluginRef) -> Entry:
        """On a worker that sees the module but not the entry points (working_dir, py_modules folder)."""
        need = f"{ref.kind} {ref.name!r} needs {ref.distribution} {ref.version}, which node {platform.node()}"
        pip = f"try: pip install {ref.distribution}=={ref.version}"
        for row in self._failed:
            if row.distribution == ref.distribution:
                raise PluginError(f"{need} cannot use: it {_verb(row)} ({row.reason})")
        if importlib.util.find_spec(ref.module.split(".")[0]) is None:
            raise PluginError(f"{need} does not have; {pip}")
        try:
            specs = collect(importlib.import_module(ref.module))
        except (Exception, SystemExit) as error:  # as at discovery
            raise PluginError(f"{need} cannot load: {type(error).__name__}: {error}; {pip}") from error
        for kind, spec in specs:
            if (kind, spec.name) == (ref.kind, ref.name):
                return Entry(spec, kind, ref.module, ref.distribution, ref.version, "")
        raise PluginError(f"{need} has without that name; {pip}")


@cache
def registry() -> Registry:
    """The registry of this process; read once. `registry.cache_clear()` reads again."""
    return Registry(*discover())


PROMISES: Mapping[str, Mapping[str, type]] = {  # by kind and the spec's field
    "aggregator": {"fits": Fitted, "locates": Located, "asymmetric": Asymmetric},
    "reader": {"cuts": Cuts, "loads_many": LoadsMany},
}


def _check_shape(entry: Entry, args: tuple[Any, ...]) -> None:
    shape = args[0] if args else None
    if entry.spec.needs_attention and isinstance(shape, TokenShape) and not shape.heads:
        raise ConfigError(
            f"aggregator {entry.spec.name!r} needs class attention, but the backbone gives none; "
            "use a ViT with a class token"
        )


def check_promises(entry: Entry, built: Any) -> None:
    """Raises PluginError for an object whose spec declares another set of promises than it has."""
    spec = entry.spec
    for name, protocol in PROMISES.get(entry.kind, {}).items():
        declared: bool = getattr(spec, name)
        if isinstance(built, protocol) != declared:
            here = "lacks" if declared else "has"
            told = ", ".join(attribute for attribute in vars(protocol) if not attribute.startswith("_"))
            raise PluginError(
                f"{entry.kind} {spec.name!r} of {entry.distribution} {entry.version} {here} {told}, but its "
                f"PluginSpec says {name}={declared}; write {name}={not declared} there"
            )


def _absolute_all(value: Any, base: Path) -> Any:
    if isinstance(value, list):
        return [_absolute_all(one, base) for one in value]
    return value if value is None else str(absolute(value, base))


def _validated(
    model: type[Options],
    options: dict[str, Any],
    where: str,
    words: Iterable[str] = (),
    elsewhere: Elsewhere = nowhere,
) -> Options:
    try:
        return model(**options)
    except ValidationError as error:
        raise ConfigError(f"{where}: {explain(error, model, words, elsewhere)}") from None


def explain(
    error: ValidationError,
    model: type[BaseModel],
    words: Iterable[str] = (),
    elsewhere: Elsewhere = nowhere,
) -> str:
    """A pydantic error in one line, with the place or the closest known key for an unknown one.

    `words` are keys that are allowed beside the model's own; `elsewhere` says where a key may stand.
    """
    lines = []
    for problem in error.errors(include_url=False):
        place = ".".join(str(step) for step in problem["loc"])
        message = in_words(problem)
        message = f"{message[:1].lower()}{message[1:]}"
        if problem["type"] == "extra_forbidden":
            owner = _owner(model, problem["loc"])
            known = [key for key, field in owner.model_fields.items() if not field.exclude]
            known += words if owner is model else ()
            key = str(problem["loc"][-1])
            close = elsewhere(key) or get_close_matches(key, known, 1)
            lines.append(
                f"unknown option {place!r}; "
                + (f"did you mean {close[0]!r}? " if close else "")
                + f"known: {', '.join(known) or 'none'}"
            )
        elif problem["type"] == "missing":
            lines.append(f"{place} is required")
        else:
            lines.append(f"{place}: {message} (got {problem['input']!r:.200})" if place else message)
    return "; ".join(lines)


def in_words(problem: Mapping[str, Any]) -> str:
    """What pydantic says of one mistake; of a validator its own words, without "Value error" before them."""
    own = problem.get("ctx", {}).get("error") if problem["type"] == "value_error" else None
    return str(own or problem["msg"])


def _owner(model: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel]:
    """The model that the last step of `loc` belongs to."""
    for step in loc[:-1]:
        field = model.model_fields.get(str(step))
        inner = field.annotation if field else None
        for kind in (inner, *get_args(inner)):  # a table that may be left out is one of two
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
    return model


def _verb(row: PluginStatus) -> str:
    return {"disabled": "is disabled", "incompatible": "is incompatible"}.get(row.status, "failed to load")


def _conflict(kind: str, name: str, claims: list[Entry]) -> str:
    owners = " and ".join(f"{claim.distribution} {claim.version}" for claim in claims)
    return f"{kind} {name!r} is claimed by {owners}; uninstall one, or choose with {ALLOWLIST}"
