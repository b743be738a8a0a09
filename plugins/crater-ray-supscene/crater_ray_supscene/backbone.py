"""The backbone `trained`: what a training run left, by the path of its model folder."""

from __future__ import annotations

import json
from pathlib import Path

from crater_ray.errors import PluginError
from crater_ray.plugins import Backbone, registry

WEIGHTS, CONFIG = "backbone.safetensors", "backbone.json"


def trained(path: Path, attention_column: bool = False) -> Backbone:
    """A timm ViT with the folder's weights, at the size it was trained at.

    Raises PluginError for a folder that is no model folder.
    """
    try:
        told = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        options = {key: told[key] for key in ("model", "image_size", "resize")}
    except (OSError, ValueError, KeyError) as error:
        raise PluginError(
            f"{path / CONFIG} cannot be read ({type(error).__name__}: {error}); "
            "name the model folder of a finished training run"
        ) from None
    options |= {"weights": str(path / WEIGHTS), "attention_column": attention_column}
    here = registry()
    backbone: Backbone = here.build(here.ref("backbone", "timm", options, where="backbone trained"))
    return backbone
