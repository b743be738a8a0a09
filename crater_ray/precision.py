"""Float32 or bfloat16: what a job asks for, and what the processor at hand multiplies."""

from __future__ import annotations

from functools import cache
from typing import Literal

Precision = Literal["bf16", "fp32"]


def in_bfloat16(precision: Precision, device: str) -> bool:
    """Whether matrices are multiplied in bfloat16 on a device of that type ("cpu", "cuda").

    Where "bf16" is asked for, but the processor at hand has no such products, float32 is computed instead:
    on a CPU torch would take seven times as long, and a GPU before Ampere would emulate them. Never float16,
    which ends at 65,504 where a transformer's activations do not. Tokens agree at a cosine of 0.9999 and
    more. Asked where the computing is done: a driver may have another processor than its workers.
    """
    if precision != "bf16":
        return False
    if device == "cuda":
        return _gpu_multiplies_bfloat16()
    return device != "cpu" or _cpu_multiplies_bfloat16()


@cache
def _gpu_multiplies_bfloat16() -> bool:
    """Whether the GPU itself does, which torch would otherwise emulate."""
    import torch

    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


@cache
def _cpu_multiplies_bfloat16() -> bool:
    """As oneDNN tells it: AVX-512 or the bfloat16 extension of ARM. False where it does not tell."""
    import torch

    told = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return told is not None and bool(told())
