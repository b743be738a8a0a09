"""DINOv2 as it is installed, and the differences in this package added to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from crater_ray.plugins import Backbone, registry
from crater_ray_moon.difference import added

DIFFERENCE = Path(__file__).with_name("difference.safetensors")
HUB_MODEL = "vit_small_patch14_dinov2.lvd142m"


def moon(
    image_size: int = 112,
    base: str = "dinov2_offline",
    attention_column: bool = False,
    difference: Path = DIFFERENCE,
) -> Backbone:
    """DINOv2 ViT-S/14 with the last six blocks as trained: 384 numbers a token, one token per 14 pixels.

    Raises PluginError when DINOv2's weights cannot be had, or the file does not fit them.
    """
    options: dict[str, Any] = {"image_size": image_size, "attention_column": attention_column}
    if base == "timm":
        options["model"] = HUB_MODEL
    here = registry()
    backbone: Backbone = here.build(here.ref("backbone", base, options, where="backbone moon"))
    model = cast(nn.Module, cast(Any, backbone).model)
    state = model.state_dict()
    changed = added({name: tensor.numpy() for name, tensor in state.items()}, difference)
    model.load_state_dict(
        state | {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in changed.items()}
    )
    return backbone
