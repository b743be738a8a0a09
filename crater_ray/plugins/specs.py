"""What a hook yields: a name, a sentence, where to find the factory, and its options. No torch, no ray."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict

from crater_ray.used import Used

Kind = Literal["reader", "backbone", "aggregator", "consumer", "command"]
KINDS: tuple[Kind, ...] = get_args(Kind)

RESERVED: frozenset[str] = frozenset(
    {"name", "cache", "batch", "precision", "index", "codec", "scoring"}
)  # keys that the job file's own tables use beside a plugin's options


class _FileMark:
    """Marks an option as a path: resolved against the job file, absolute when it travels."""


File = Annotated[Path, _FileMark()]  # use it (or `File | None`) in an Options model


class Options(Used):
    """Base of every options model: plain values only, unknown keys refused, frozen.

    `unused` may say which options others leave without a use: other values than their defaults are refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def files(cls) -> frozenset[str]:
        """The names of the options that are paths."""
        return frozenset(
            name for name, field in cls.model_fields.items() if _is_file(field.annotation, field.metadata)
        )


def _is_file(annotation: Any, metadata: list[Any]) -> bool:
    if any(isinstance(mark, _FileMark) for mark in metadata):
        return True
    if any(isinstance(mark, _FileMark) for mark in getattr(annotation, "__metadata__", ())):
        return True
    return any(_is_file(argument, []) for argument in get_args(annotation))


@dataclass(frozen=True, slots=True)
class Question:
    """What `crater-ray init` asks about one option of a reader or a backbone; `--name` answers it.

    text: what is asked, and the comment beside the answer in the job; proposal: an answer, as it is typed.
    """

    name: str
    text: str
    proposal: str = ""


@dataclass(frozen=True, slots=True)
class PluginSpec:
    """One thing a plugin offers.

    name: lower-case letters, digits and underscores (a command may use hyphens);
    factory: "package.module:Name", imported only where it runs;
    algorithm_version: from 1, raised only when the same options give other bytes than before, a changed
    default included. An index needs the one that made it, in any release of the package.
    The other fields declare optional promises. What is built must have what its spec declares, and no more.
    Raises ValueError when a field is malformed.
    """

    name: str
    summary: str
    factory: str
    options: type[Options] = Options
    algorithm_version: int = 1
    fits: bool = False  # an aggregator that learns from a sample: `Fitted`
    locates: bool = False  # an aggregator that knows which patch each vector stands for: `Located`
    asymmetric: bool = False  # an aggregator whose query side has its own number of vectors: `Asymmetric`
    needs_attention: bool = False  # an aggregator for backbones with class attention only
    whiten: bool = True  # an aggregator whose vectors a shortlist whitens, unless the job says otherwise
    cuts: bool = False  # a reader that cuts a view at any place of its raster: `Cuts`
    loads_many: bool = False  # a reader that loads several images in one call: `LoadsMany`
    reads_neighbours: bool = True  # a consumer; without, it gets an empty table and nothing is searched
    questions: tuple[Question, ...] = ()  # what `init` asks; empty: the options that have no default
    interview: str = ""  # "package.module:function", an `Interview`: what asks them; empty: one after another

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", self.name):
            raise ValueError(f"spec name {self.name!r}: use lower-case letters, digits and underscores")
        if not re.fullmatch(r"[\w.]+:\w+", self.factory):
            raise ValueError(f"factory {self.factory!r} of {self.name!r}: write it as 'package.module:Name'")
        if self.interview and not re.fullmatch(r"[\w.]+:\w+", self.interview):
            raise ValueError(
                f"interview {self.interview!r} of {self.name!r}: write it as 'package.module:function'"
            )
        if not (isinstance(self.options, type) and issubclass(self.options, Options)):
            raise ValueError(f"options of {self.name!r} must be a subclass of crater_ray.plugins.Options")
        if not (isinstance(self.algorithm_version, int) and self.algorithm_version >= 1):
            raise ValueError(f"algorithm_version of {self.name!r} must be a whole number from 1")
        for question in self.questions:
            if question.name not in self.options.model_fields:
                raise ValueError(f"question {question.name!r} of {self.name!r} is none of its options")
        clash = RESERVED & set(self.options.model_fields)
        if clash:
            raise ValueError(
                f"option {sorted(clash)[0]!r} of {self.name!r} is a word of the job file; rename it"
            )


@dataclass(frozen=True, slots=True)
class PluginRef:
    """A plugin by name: what travels to a worker and what an index config stores. Plain data."""

    kind: Kind
    name: str
    options: dict[str, Any]  # validated, JSON-safe, paths absolute
    module: str  # the module that registered it
    distribution: str
    version: str  # of the distribution: workers run the driver's
    algorithm_version: int = 1  # of what it computes: an index needs the one that made it
