"""An aggregator in a folder: aggregator.safetensors, and beside it aggregator.json with what it takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from crater_ray.errors import ConfigError, PluginError
from crater_ray.types import TokenShape

WEIGHTS, CONFIG = "aggregator.safetensors", "aggregator.json"


class Trained(nn.Module):
    """Base of what this package trains: one unit vector an image, its options, and its folder.

    A subclass gives `name` and `defaults`, calls `_begin` first and `_end` last in its __init__.
    """

    name = ""
    defaults: dict[str, Any] = {}  # noqa: RUF012  (read only, replaced whole by subclasses)
    k = 1
    dim: int
    options: dict[str, Any]

    def _begin(self, shape: TokenShape, path: Path | None, **given: Any) -> None:
        super().__init__()
        self.shape = shape
        self.options = settled(self.name, self.defaults, shape, path, given)

    def _end(self, path: Path | None) -> None:
        if path is not None:
            load(self, path)
        self.eval()


def settled(
    name: str, defaults: dict[str, Any], shape: TokenShape, path: Path | None, given: dict[str, Any]
) -> dict[str, Any]:
    """Every option: as the folder's config says, else as given, else the default.

    Raises ConfigError where the folder holds another aggregator, other tokens, or another value than the one
    given, PluginError where it cannot be read.
    """
    wanted = {key: value for key, value in given.items() if value is not None}
    if path is None:
        return {**defaults, **wanted}
    told = stored(path)
    if told["aggregator"] != name:
        raise ConfigError(f"{path} holds the aggregator {told['aggregator']!r}; name that, not {name!r}")
    made = told["shape"]
    here = json.loads(json.dumps(asdict(shape)))
    if {key: made[key] for key in ("dim", "heads", "cls")} != {
        key: here[key] for key in ("dim", "heads", "cls")
    }:
        raise ConfigError(
            f"{path} was trained on tokens of {made['dim']} numbers and {made['heads']} heads, but the "
            f"backbone gives {here['dim']} and {here['heads']}; use the backbone it was trained with"
        )
    kept: dict[str, Any] = told["options"]
    for key, value in wanted.items():
        if kept[key] != value:
            raise ConfigError(
                f"option {key} of {name!r} is {value!r}, but {path} was trained with {kept[key]!r}; "
                "leave it out"
            )
    return kept


def save(module: Trained, folder: Path) -> None:
    """Writes weights and config; the config last."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    save_file(tensors, folder / WEIGHTS)
    told = {"aggregator": module.name, "options": module.options, "shape": asdict(module.shape)}
    (folder / CONFIG).write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def load(module: nn.Module, folder: Path) -> None:
    """The folder's weights, every one of them. Raises PluginError when they are absent or do not fit."""
    try:
        tensors = load_file(folder / WEIGHTS) if (folder / WEIGHTS).is_file() else None
        if tensors is None:
            raise PluginError(f"{folder} has no {WEIGHTS}; name the model folder of a finished training run")
        module.load_state_dict(tensors)
    except (OSError, SafetensorError, RuntimeError) as error:
        text = " ".join(str(error).split())
        raise PluginError(f"{folder / WEIGHTS} cannot be used: {text[:300]}") from None


@contextmanager
def seeded(*seed: int) -> Iterator[None]:
    """Inside, torch's random numbers, a GPU's too, are a function of the seed; the CPU's go on after it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed[0] if len(seed) == 1 else _mixed(seed))
        yield


def _mixed(seed: tuple[int, ...]) -> int:
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])


def stored(path: Path) -> dict[str, Any]:
    """aggregator, options and shape of a model folder. Raises PluginError when it is none."""
    try:
        told: dict[str, Any] = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        return {key: told[key] for key in ("aggregator", "options", "shape")}
    except (OSError, ValueError, KeyError) as error:
        raise PluginError(
            f"{path / CONFIG} cannot be read ({type(error).__name__}: {error}); "
            "name the model folder of a finished training run"
        ) from None
