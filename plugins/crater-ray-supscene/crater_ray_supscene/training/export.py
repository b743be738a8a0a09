"""The result of a run: model/, a backbone and an aggregator that any index job can name.

model/ backbone.safetensors · backbone.json · aggregator.safetensors · aggregator.json
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from crater_ray.files import whole_folder
from crater_ray_supscene.aggregators import saved
from crater_ray_supscene.training.job import TrainJob
from crater_ray_supscene.training.model import Descriptor, built_backbone

MODEL = "model"
WEIGHTS, CONFIG = "backbone.safetensors", "backbone.json"


def export(job: TrainJob, descriptor: Descriptor, told: dict[str, Any]) -> Path:
    """<out>/model, made anew; `told` goes into backbone.json."""
    whole = built_backbone(job)
    take_over(whole.model, descriptor.backbone.model, job.train.blocks)
    target = job.out / MODEL
    for left in job.out.glob(f".{MODEL}.*"):  # of a run that was killed while it wrote
        shutil.rmtree(left, ignore_errors=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in whole.model.state_dict().items()}
    options = job.backbone_ref().options
    rows, _ = whole.shape.grid
    config = {
        "model": whole.model.pretrained_cfg["architecture"],
        "image_size": rows * int(whole.model.patch_embed.patch_size[0]),
        "resize": options.get("resize", "squash"),
        **told,
    }
    with whole_folder(target) as own:
        save_file(weights, own / WEIGHTS)
        (own / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        saved.save(descriptor.aggregator, own)
        shutil.rmtree(target, ignore_errors=True)
    return target


def take_over(whole: Any, trained: Any, blocks: int) -> None:
    """Copies the last `blocks` blocks and the final norm of one timm ViT into another."""
    parts: list[tuple[nn.Module, nn.Module]] = [(whole.norm, trained.norm)]
    if blocks:
        parts += list(zip(whole.blocks[-blocks:], trained.blocks[-blocks:], strict=True))
    for target, source in parts:
        target.load_state_dict(source.state_dict())
