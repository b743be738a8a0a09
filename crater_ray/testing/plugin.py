"""A whole plugin, tried as a job would use it: found, given its options, built, and held to its promises."""

from __future__ import annotations

import importlib
import inspect
import json
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from pydantic import ValidationError

from crater_ray.errors import BadImage, ConfigError, UserError
from crater_ray.images import pixels
from crater_ray.plugins import Aggregator, Fitted, Options, Reader, registry
from crater_ray.plugins.discovery import Entry, collect, normal
from crater_ray.plugins.registry import check_promises, explain
from crater_ray.testing.checks import (
    ConformanceError,
    check_aggregator,
    check_backbone,
    check_consumer,
    check_reader,
)
from crater_ray.testing.fakes import fake_tokens
from crater_ray.types import MAX_PIXELS, Side, TokenShape

OWN_COLUMNS = ("id", "group", "uri", "stamp")  # of every index; a reader's own have other names
IMAGES = 4  # of a reader that are decoded
SHAPES = {  # what an aggregator meets; one that cannot use it says so by a ConfigError when it is built
    "a grid of 12 × 12": TokenShape(32, (12, 12), heads=2, cls=True),
    "a grid of 9 × 15": TokenShape(32, (9, 15), heads=2, cls=True),
    "a grid of 3 × 5": TokenShape(32, (3, 5), heads=2, cls=True),
    "no attention": TokenShape(32, (12, 12), heads=0, cls=True),
    "no class token": TokenShape(32, (12, 12), heads=2, cls=False),
}
WIDE = 384  # dimensions of a small ViT
SIDES: tuple[Side, ...] = ("gallery", "query")
Given = Mapping[str, Mapping[str, Any]]


def check_plugin(plugin: str, options: Given | None = None) -> None:
    """All that a plugin registers: each is built from its options as a job builds it, and tried.

    `plugin` is an installed distribution, such as "crater-ray-mosaic", or the module with its hooks.
    `options` says by a spec's name what a job would give it; it is needed where an option has no default.
    Raises ConformanceError that names the spec, with the file and the line where its own code raised.
    """
    found = _entries(plugin)
    if unknown := sorted((options or {}).keys() - {entry.spec.name for entry in found}):
        names = ", ".join(entry.spec.name for entry in found)
        raise ConformanceError(f"{plugin} registers no {unknown[0]!r}; it has {names}")
    for entry in found:
        with _named(entry):
            _check(entry, dict((options or {}).get(entry.spec.name, {})))


def _entries(plugin: str) -> list[Entry]:
    rows = [row for row in registry().statuses() if normal(row.distribution) == normal(plugin)]
    if bad := [row for row in rows if row.status != "ok"]:
        raise ConformanceError(f"{plugin} is {bad[0].status}: {bad[0].reason}")
    if rows:
        every = [registry().find(row.kind, row.name) for row in rows]  # type: ignore[arg-type]
        return [entry for entry in every if normal(entry.distribution) == normal(plugin)]
    try:
        specs = collect(importlib.import_module(plugin))
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # it may fail in any way, sys.exit included
        if isinstance(error, ModuleNotFoundError) and error.name in (plugin, plugin.partition(".")[0]):
            raise ConformanceError(f"{plugin} is no installed distribution, and no module: {error}") from None
        what = f"{type(error).__name__}: {str(error) or 'no message'}"
        raise ConformanceError(f"{plugin} cannot be loaded: {what}{_place(error)}") from error
    return [Entry(spec, kind, plugin, plugin, "", "") for kind, spec in specs]


@contextmanager
def _named(entry: Entry) -> Iterator[None]:
    """Whatever goes wrong inside names the spec; what its own code raises, the file and the line too."""
    who = f"{entry.kind} {entry.spec.name!r} of {entry.distribution}"
    try:
        yield
    except ConformanceError as error:
        raise ConformanceError(f"{who}: {error}") from error.__cause__
    except Exception as error:
        raise ConformanceError(f"{who}: {type(error).__name__}: {error}{_place(error)}") from error


def _check(entry: Entry, given: dict[str, Any]) -> None:
    factory = registry().factory(entry)
    if entry.kind == "command":
        _require(isinstance(factory, click.Command), f"{entry.spec.factory} is no click.Command")
        return
    model = _options(entry.spec.options, given)
    chosen = {name: getattr(model, name) for name in type(model).model_fields}
    first = [SHAPES["a grid of 12 × 12"]] if entry.kind == "aggregator" else []
    try:
        inspect.signature(factory).bind(*first, **chosen)
    except TypeError as error:
        raise ConformanceError(f"{entry.spec.factory} does not take its options: {error}") from None
    if entry.kind == "reader":
        reader = factory(**chosen)
        check_promises(entry, reader)
        _check_reader(reader)
    elif entry.kind == "backbone":
        _check_backbone(factory, chosen)
    elif entry.kind == "aggregator":
        _check_aggregator(entry, factory, chosen)
    else:
        with tempfile.TemporaryDirectory() as folder:
            try:
                check_consumer(factory(**chosen), Path(folder))
            except UserError:
                return  # it says what it needs and this index lacks


def _options(model: type[Options], given: dict[str, Any]) -> Options:
    """The options as they arrive where the object is built: checked, written as JSON and read again."""
    try:
        made = model(**given)
    except ValidationError as error:
        raise ConformanceError(
            f"its options do not hold: {explain(error, model)}; give check_plugin those of a job, by the name"
        ) from None
    plain = made.model_dump(mode="json")
    _require(
        json.loads(json.dumps(plain)) == plain, "its options are no plain values: a job cannot send them"
    )
    again = model(**plain)
    _require(again == made, "its options are others once they were written as JSON and read again")
    return again


def _check_reader(reader: Reader) -> None:
    check_reader(reader, IMAGES)
    taken = sorted(set(OWN_COLUMNS) & set(reader.columns.names))
    _require(not taken, f"columns has {taken}, words of the index itself; rename them")
    items = [item for part in reader.parts() for item in reader.read(part)]
    _require(bool(items), "it lists no item with these options")
    for item in islice(items, IMAGES):
        try:
            pixels(reader.load(item.uri), MAX_PIXELS)
        except BadImage as error:
            raise ConformanceError(f"the image of {item.id!r} cannot be used: {error}") from None


def _check_backbone(factory: Any, chosen: Mapping[str, Any]) -> None:
    backbone = factory(**chosen)
    check_backbone(backbone)
    other = factory(**chosen)
    weights = list(other.parameters()) if isinstance(other, torch.nn.Module) else []
    if weights:
        with torch.no_grad():
            weights[0].add_(1)
        _require(other.digest != backbone.digest, "digest stays as it is when the weights change")
    else:
        _require(other.digest == backbone.digest, "built again from the same options it has another digest")


def _check_aggregator(entry: Entry, factory: Any, chosen: Mapping[str, Any]) -> None:
    refused = _tried(entry, factory, chosen, SHAPES)
    if len(refused) == len(SHAPES):  # made for a wider backbone, as its defaults may be
        refused = _tried(entry, factory, chosen, {k: replace(s, dim=WIDE) for k, s in SHAPES.items()})
    if len(refused) == len(SHAPES):
        raise ConformanceError(f"it refuses every shape: {next(iter(refused.values()))}")


def _tried(
    entry: Entry, factory: Any, chosen: Mapping[str, Any], shapes: Mapping[str, TokenShape]
) -> dict[str, str]:
    """The shapes that it refuses, each with what it says."""
    refused: dict[str, str] = {}
    for what, shape in shapes.items():
        if entry.spec.needs_attention and not shape.heads:
            continue  # no job gives it such tokens
        try:
            check_promises(entry, factory(shape, **chosen))
        except ConfigError as error:
            refused[what] = error.message
            continue
        try:
            check_aggregator(factory, shape, **chosen)
            _check_halves(factory, shape, chosen)
        except ConformanceError as error:
            raise ConformanceError(f"with {what}: {error}") from error
        except Exception as error:
            raise ConformanceError(f"with {what}: {type(error).__name__}: {error}{_place(error)}") from error
    return refused


def _check_halves(factory: Any, shape: TokenShape, chosen: Mapping[str, Any]) -> None:
    """bf16 tokens, as a GPU and a recent CPU give them."""
    built: Aggregator = factory(shape, **chosen)
    tokens = fake_tokens(shape).map(
        lambda tensor: tensor.bfloat16() if tensor.is_floating_point() else tensor
    )
    if isinstance(built, Fitted):
        built.load(built.fit(iter([fake_tokens(shape, 8, seed) for seed in range(1, 41)]), seed=0))
    for side in SIDES:
        with torch.inference_mode():
            rows = built(tokens, side)
        _require(rows.dtype == torch.float32, f"of bf16 tokens its rows are {rows.dtype}, not float32")
        length = rows.norm(dim=-1).numpy()
        _require(bool(np.allclose(length, 1, atol=1e-2)), "of bf16 tokens its rows have not length 1")


def _place(error: BaseException) -> str:
    """Where it was raised, of files outside this package; "" where it was raised in none."""
    own = Path(__file__).parents[1]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if not file.is_relative_to(own) and "site-packages" not in file.parts:
            return f" ({file.parent.name}/{file.name}, line {frame.lineno})"
    return ""


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ConformanceError(otherwise)
