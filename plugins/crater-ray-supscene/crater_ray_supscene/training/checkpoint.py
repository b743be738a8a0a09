"""Where a run stands: weights, AdamW's moments and the step, in safetensors and JSON, whole or not at all.

<out>/checkpoints/<step>/ state.safetensors · state.json, last
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from crater_ray.errors import CraterRayError
from crater_ray.files import whole_folder

KEEP = 2
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # of a weight; its own count, since a step may teach nothing
STATE, TOLD = "state.safetensors", "state.json"


def trained(module: nn.Module) -> dict[str, Tensor]:
    """What training changes: free weights, and the buffers beside them (a batch norm's statistics)."""
    frozen = {name for name, weight in module.named_parameters() if not weight.requires_grad}
    backbone = {name for name, _ in module.named_buffers() if name.startswith("descriptor.backbone.")}
    return {name: x for name, x in module.state_dict().items() if name not in frozen | backbone}


def save(
    folder: Path, step: int, module: nn.Module, optimiser: torch.optim.Optimizer, told: dict[str, Any]
) -> Path:
    """The folder of a checkpoint after `step` steps; of older ones the last stays."""
    tensors = {f"weight/{name}": tensor for name, tensor in trained(module).items()}
    for (name, _), state in zip(_free(module), _states(module, optimiser), strict=True):
        tensors |= {f"{key}/{name}": state[key] for key in MOMENTS if key in state}
    target = folder / f"{step:08d}"
    with whole_folder(target) as own:
        save_file({key: x.detach().cpu().contiguous() for key, x in tensors.items()}, own / STATE)
        (own / TOLD).write_text(json.dumps({**told, "step": step}), encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
    for old in sorted(_whole(folder))[:-KEEP]:
        shutil.rmtree(old)
    for left in folder.glob(".[0-9]*"):  # of a run that was killed while it wrote
        shutil.rmtree(left, ignore_errors=True)
    return target


def latest(folder: Path) -> Path | None:
    """The checkpoint to go on from."""
    return max(_whole(folder), default=None)


def read_told(path: Path) -> dict[str, Any]:
    """step, and what was saved beside it. Raises CraterRayError when it is damaged."""
    try:
        told: dict[str, Any] = json.loads((path / TOLD).read_text(encoding="utf-8"))
        return told
    except (OSError, ValueError) as error:
        raise CraterRayError(f"{path / TOLD} is damaged ({error}); delete the folder {path}") from None


def load(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Puts weights and moments back; what `read_told` gives. Raises CraterRayError when it is damaged."""
    told = read_told(path)
    try:
        tensors = load_file(path / STATE)
        weights = {key.removeprefix("weight/"): x for key, x in tensors.items() if key.startswith("weight/")}
        here = trained(module)
        if here.keys() != weights.keys():
            raise KeyError(f"it holds {len(weights)} tensors where {len(here)} are trained")
        module.load_state_dict(weights, strict=False)
        state = {}
        for number, (name, _) in enumerate(_free(module)):
            if f"exp_avg/{name}" in tensors:
                state[number] = {key: tensors[f"{key}/{name}"] for key in MOMENTS}
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise CraterRayError(f"{path} is damaged ({error}); delete it, and the one before is used") from None
    return told


def _free(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Names and weights in the order that the optimiser was given them."""
    return [(name, weight) for name, weight in module.named_parameters() if weight.requires_grad]


def _states(module: nn.Module, optimiser: torch.optim.Optimizer) -> list[dict[str, Any]]:
    return [dict(optimiser.state.get(weight, {})) for _, weight in _free(module)]


def _whole(folder: Path) -> list[Path]:
    return [path.parent for path in folder.glob(f"[0-9]*/{TOLD}")]
