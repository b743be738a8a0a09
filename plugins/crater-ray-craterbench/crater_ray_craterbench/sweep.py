"""What `crater-ray bench tokens` measures: configurations, one axis at a time around the paper's own.

The default is attention seeds, residual assignment, MaxSim, fp16, K = 64. Names come from the closed sets of
the code, so that a new selection, scoring or codec is swept as soon as it is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, get_args

import xxhash

from crater_ray.errors import ConfigError, UserError
from crater_ray.plugins import PluginRef, registry
from crater_ray.plugins.discovery import CORE
from crater_ray.types import TokenShape

QUERIES, FEW = 240, 100  # of the 1,500 craters on the Moon, FEW for dear configurations: under 90 minutes
DEFAULT_K, K, KS = 32, 64, (4, 8, 16, 32, 64, 128)
CANDIDATES = (10, 30, 50, 100, 200, 500)
DEAR = 2 * K**2  # products of two tokens: a sweep that costs more takes fewer queries
OF = "of_options"  # of an aggregator that hands its tokens to another
SEEDS, SEEDS_WITHOUT_ATTENTION, ASSIGN, HEADS = "attention", "farthest", "residual", "mean"


@dataclass(frozen=True, slots=True)
class Configuration:
    """One way from Tokens to scores."""

    aggregator: str
    options: tuple[tuple[str, Any], ...] = ()  # of_options as pairs, too
    scoring: str = "maxsim"
    codec: str = "fp16"
    candidates: int = 0  # images whose tokens are read, after the job's shortlist; 0: all
    few: bool = field(default=False, compare=False)  # dear, and not of the default's own curve

    def ref(self) -> PluginRef:
        """Raises ConfigError when the options do not hold here."""
        given = {key: dict(value) if key == OF else value for key, value in self.options}
        return registry().ref("aggregator", self.aggregator, given)

    @property
    def title(self) -> str:
        words = [f"{self.aggregator} ({self.words()['options']})", self.scoring, self.codec]
        return ", ".join([*words, *([f"S = {self.candidates}"] if self.candidates else [])])

    def exhaustive(self) -> Configuration:
        """Without a shortlist: every image is scored."""
        return replace(self, candidates=0)

    def key(self, *context: Any) -> str:
        """xxh3_128 hex of all that decides the result: this, its options in full, and the context."""
        ref = self.ref()
        made = [ref.name, ref.options, ref.distribution, ref.algorithm_version]
        how = [self.scoring, self.codec, self.candidates]
        return digest([made, how, *context])

    def flat(self) -> dict[str, Any]:
        """Its options beside those of the aggregator it hands its tokens to."""
        given = dict(self.options)
        return given | dict(given.pop(OF, ()))

    def words(self) -> dict[str, Any]:
        """Its columns in a table."""
        given = self.flat()
        return {
            "aggregator": self.aggregator,
            "options": " ".join(f"{key}={value}" for key, value in given.items()),
            "seeds": given.get("seeds", ""),
            "assign": given.get("assign", "none" if self.aggregator in ("topk", "all") else ""),
            "scoring": self.scoring,
            "codec": self.codec,
            "candidates": self.candidates or "",
        }


@dataclass(frozen=True, slots=True)
class Choices:
    """The closed sets, and what the backbone and the gallery allow."""

    total: int  # T, patch tokens of an image
    seeds: tuple[str, ...]
    assigns: tuple[str, ...]
    heads: tuple[str, ...]
    scorings: tuple[str, ...]
    codecs: tuple[str, ...]
    poolings: tuple[str, ...]
    gallery: int

    @property
    def ks(self) -> tuple[int, ...]:
        """All of them, T last."""
        return (*(k for k in KS if k < self.total), self.total)

    @property
    def k(self) -> int:
        """64, or the largest below T where T is less."""
        return max((k for k in self.ks[:-1] if k <= K), default=self.total)

    def instance(
        self,
        k: int,
        *,
        query_k: int | None = None,
        seeds: str | None = None,
        assign: str = ASSIGN,
        heads: str = HEADS,
        **more: Any,
    ) -> Configuration:
        """K tokens; with K = T every selection and assignment is all tokens, which is one configuration."""
        if k == self.total and query_k in (None, self.total):
            return Configuration("all", **more)
        options: dict[str, Any] = {"k": k, "seeds": seeds or self.seeds[0]}
        if query_k is not None and query_k != k:
            options["query_k"] = query_k
        if heads != HEADS:
            options["heads"] = heads
        if assign == "none":
            return Configuration("topk", tuple(options.items()), **more)
        return Configuration("instance_tokens", tuple({**options, "assign": assign}.items()), **more)

    def whitened(self, k: int, **more: Any) -> Configuration:
        """K whitened tokens of seeds that lie farthest apart, which is what a job takes by default."""
        return Configuration("whitened_tokens", ((OF, (("k", k), ("seeds", "farthest"))),), **more)


def choices(shape: TokenShape, gallery: int, left_out: dict[str, str]) -> Choices:
    """What can be measured on a backbone of `shape`; `left_out` is told what cannot, and why."""
    from crater_ray.search.codecs import NAMES
    from crater_ray.search.scoring import SCORINGS

    model = registry().specs("aggregator")["instance_tokens"].options.model_fields
    named = {name: tuple(get_args(model[name].annotation)) for name in ("seeds", "assign", "heads")}
    first = SEEDS if shape.heads else SEEDS_WITHOUT_ATTENTION

    def possible(seeds: str) -> bool:
        return _built(f"seeds {seeds}", "topk", {"k": 1, "seeds": seeds}, shape, left_out) is not None

    return Choices(
        total=shape.tokens,
        seeds=(first, *(name for name in named["seeds"] if name != first and possible(name))),
        assigns=named["assign"],
        heads=named["heads"] if shape.heads else (HEADS,),
        scorings=tuple(name for name, one in SCORINGS.items() if not one.places),  # of some tokens
        codecs=tuple(NAMES),
        poolings=tuple(_poolings(shape, left_out)),
        gallery=gallery,
    )


def sweep(have: Choices, *, grid: bool = False, only: Sequence[str] = ()) -> dict[str, list[Configuration]]:
    """Axis -> its configurations, in the order of its table; one may stand in several axes.

    With `only`, the axes left out are empty. Raises ConfigError for one that is not known.
    """
    k = have.k
    some = [k for k in (16, 64) if k < have.total] + [have.total]
    axes = {
        "pooling": [Configuration(name) for name in have.poolings],
        "falsifier": [have.instance(k), have.instance(have.total)],
        "stages": [have.instance(k, candidates=s) for s in CANDIDATES if s < have.gallery],
        "codec": [have.instance(k, codec=codec) for codec in have.codecs],
        "scoring": [have.instance(k, scoring=name) for name in have.scorings],
        "heads": [have.instance(k, heads=heads) for heads in have.heads],
        "assignment": [have.instance(k, assign=a) for a, k in product(have.assigns, have.ks)],
        "selection": [have.instance(k, seeds=seeds) for seeds, k in product(have.seeds, have.ks)],
        "raw selection": [
            have.instance(k, assign="none", seeds=seeds)
            for seeds, k in [*product(have.seeds, [k]), *product(("random",), have.ks)]
        ],
        "whitening": [
            *(have.whitened(k) for k in have.ks if k <= have.k),
            *(have.whitened(min(DEFAULT_K, have.total), codec=c) for c in have.codecs if c != "fp16"),
        ],
        "query k": [have.instance(k, query_k=query_k) for query_k, k in product(some, some)],
    }
    if grid:
        axes["grid"] = [
            have.instance(k, seeds=seeds, assign=assign)
            for seeds, assign, k in product(have.seeds, have.assigns, have.ks)
        ]
    unknown = sorted(set(only) - set(axes))
    if unknown:
        raise ConfigError(f"there is no axis {unknown[0]!r}; known: {', '.join(axes)}")
    if only:
        axes = {axis: members if axis in only else [] for axis, members in axes.items()}
    every = [have.instance(k) for k in have.ks[:-1]]  # the default's own curve: all queries
    return {
        axis: [one if one in every else replace(one, few=work(one, have) > DEAR) for one in members]
        for axis, members in axes.items()
    }


def digest(content: Any) -> str:
    """xxh3_128 hex of plain data."""
    return xxhash.xxh3_128_hexdigest(json.dumps(content, sort_keys=True).encode())


def work(one: Configuration, have: Choices) -> int:
    """Products of two tokens that one image costs one query."""
    given = one.flat()
    k = have.total if one.aggregator == "all" else int(given.get("k", 1))
    return k * int(given.get("query_k", k))


def unique(axes: Mapping[str, Sequence[Configuration]]) -> list[Configuration]:
    """Every configuration once, in the order of the axes."""
    return list(dict.fromkeys(one for members in axes.values() for one in members))


def together(pending: Iterable[Configuration]) -> list[list[Configuration]]:
    """Those that differ in their stages only: they share one scoring."""
    groups: dict[Configuration, list[Configuration]] = {}
    for one in pending:
        groups.setdefault(one.exhaustive(), []).append(one)
    return list(groups.values())


def _poolings(shape: TokenShape, left_out: dict[str, str]) -> Iterator[str]:
    """Every aggregator of this package that gives one vector an image by its defaults.

    Those of plugins may be untrained by theirs.
    """
    for name in registry().specs("aggregator"):
        if registry().find("aggregator", name).distribution != CORE:
            continue
        built = _built(name, name, {}, shape, left_out)
        if built is not None and built.k == 1:
            yield name


def _built(what: str, name: str, options: dict[str, Any], shape: TokenShape, left_out: dict[str, str]) -> Any:
    """The aggregator; None, and the reason told, where it does not fit."""
    try:
        return registry().build(registry().ref("aggregator", name, options), shape)
    except UserError as error:
        left_out[what] = error.message
        return None
