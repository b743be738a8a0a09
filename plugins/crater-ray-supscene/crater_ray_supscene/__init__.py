"""SupScene for crater-ray: trainable aggregators, the backbone they were trained with, `crater-ray train`.

Importing this imports neither torch nor ray.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from crater_ray.plugins import File, Options, PluginSpec, hookimpl

crater_ray_seam = 1

Attention = Literal["row", "column"]  # class token to patches as published, or patches to class as coded
Norm = Literal["batch", "none"]  # after the descriptor's first L2


class TrainedOptions(Options):
    """None: as the folder at `path` says, or the default where there is no folder."""

    path: File | None = None  # the model folder of a training run: weights and config


class DivladOptions(TrainedOptions):
    clusters: int | None = Field(None, ge=1)  # 32
    attention: Attention | None = None  # row
    gate: bool | None = None  # true
    norm: Norm | None = None  # batch


class NetvladOptions(TrainedOptions):
    clusters: int | None = Field(None, ge=1)  # 32
    alpha: float | None = Field(None, gt=0)  # 100; of the assignment, until clusters are learned
    norm: Norm | None = None  # batch


class SaladOptions(TrainedOptions):
    clusters: int | None = Field(None, ge=1)  # 64
    local_dim: int | None = Field(None, ge=1)  # 128
    global_dim: int | None = Field(None, ge=1)  # 256
    hidden: int | None = Field(None, ge=1)  # 512
    dropout: float | None = Field(None, ge=0, lt=1)  # 0.3


class GemOptions(TrainedOptions):
    p: float | None = Field(None, gt=0)  # 3, where training starts


class RmacOptions(Options):
    levels: int = Field(3, ge=1, le=8)  # scales of regions


class SpocOptions(Options):
    prior: bool = True  # patches near the middle weigh more


class BackboneOptions(Options):
    path: File  # the model folder of a training run
    attention_column: bool = False


Named = dict[str, tuple[str, str, type[Options]]]  # summary, factory and options by name
AGGREGATORS: Named = {  # that can be trained
    "divlad": ("gated VLAD weighted by attention (SupScene)", "learnt:divlad", DivladOptions),
    "netvlad": ("VLAD with soft, learnt assignment", "learnt:netvlad", NetvladOptions),
    "salad": ("optimal transport to learnt clusters, and the class token", "learnt:salad", SaladOptions),
    "trained_gem": ("generalised mean with a learnt power", "poolings:TrainedGem", GemOptions),
    "trained_avg": ("mean of the patch tokens, for training", "poolings:TrainedAvg", TrainedOptions),
    "trained_cls": ("class token, for training", "poolings:TrainedCls", TrainedOptions),
    "cls_mean": ("class token and mean of patch tokens, side by side", "poolings:ClsMean", TrainedOptions),
}

POOLINGS: Named = {
    "rmac": ("R-MAC: maxima of regions at several scales", "regional:RMac", RmacOptions),
    "spoc": ("SPoC: the sum of the patches, the middle weighing more", "regional:Spoc", SpocOptions),
    "crow": ("CroW: patches weighted by content, channels by rarity", "regional:Crow", Options),
}


@hookimpl
def register_aggregators() -> Iterable[PluginSpec]:
    for name, (summary, where, options) in (AGGREGATORS | POOLINGS).items():
        factory = f"crater_ray_supscene.aggregators.{where}"
        # what was trained is compared as it was trained
        whiten = name not in AGGREGATORS
        yield PluginSpec(name, summary, factory, options, needs_attention=name == "divlad", whiten=whiten)


@hookimpl
def register_backbones() -> Iterable[PluginSpec]:
    yield PluginSpec(
        "trained",
        "the backbone of a training run, from its model folder",
        "crater_ray_supscene.backbone:trained",
        BackboneOptions,
    )


@hookimpl
def register_commands() -> Iterable[PluginSpec]:
    yield PluginSpec(
        "train", "train a backbone and an aggregator on Ray Train", "crater_ray_supscene.command:train"
    )
    yield PluginSpec(
        "heatmaps",
        "draw what an aggregator assigns and what the class token sees",
        "crater_ray_supscene.pictures.command:heatmaps",
    )
