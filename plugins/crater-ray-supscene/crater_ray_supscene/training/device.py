"""What a worker computes on, and how exactly."""

from __future__ import annotations

import torch

from crater_ray.precision import Precision, in_bfloat16


def computed_on(device: torch.device, precision: Precision) -> str:
    """One line for the log: the device, the type that matrices are multiplied in, and whether TF32 is on."""
    kind = "bf16" if in_bfloat16(precision, device.type) else "fp32"
    if device.type != "cuda":
        return f"{device.type}, {torch.get_num_threads()} threads, {kind}"
    products = "off" if torch.get_float32_matmul_precision() == "highest" else "on"
    convolutions = "on" if torch.backends.cudnn.allow_tf32 else "off"
    name = torch.cuda.get_device_name(device)
    return f"{device} ({name}), {kind}; TF32 {products} in products, {convolutions} in convolutions"
