"""The backbone and aggregator `moon`: craters under any sun. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from crater_ray.plugins import Options, PluginSpec, hookimpl

crater_ray_seam = 1


class MoonOptions(Options):
    image_size: int = Field(112, ge=14)  # pixels a side; trained at 112
    base: Literal["dinov2_offline", "timm"] = "dinov2_offline"  # where DINOv2 comes from: a wheel, or the hub
    attention_column: bool = False


@hookimpl
def register_backbones() -> Iterable[PluginSpec]:
    yield PluginSpec(
        "moon",
        "DINOv2 ViT-S/14 trained on craters of the Moon, under any sun and turned anyhow",
        "crater_ray_moon.backbone:moon",
        MoonOptions,
    )


@hookimpl
def register_aggregators() -> Iterable[PluginSpec]:
    yield PluginSpec(
        "moon",
        "class token and mean of patch tokens, as the backbone `moon` was trained with",
        "crater_ray_moon.aggregator:Moon",
        Options,
        whiten=False,
    )


@hookimpl
def register_commands() -> Iterable[PluginSpec]:
    yield PluginSpec(
        "moon-pack",
        "pack a trained model folder as differences to DINOv2",
        "crater_ray_moon.command:moon_pack",
    )
