"""Float32 or bfloat16: what a job asks for, and what the processor at hand multiplies."""

from __future__ import annotations

from functools import cache
from typing import Literal

Precision = Literal["bf16", "fp32"]


def in_bfloat16(precision: Precision, device: str) -> bool:
    """Whether matrices are multiplied in bfloat16 on a device of that type ("cpu", "cuda").

    Where "bf16" is asked for, but on a CPU that has no such products: there torch takes seven times as long
    as in float32, which is what is computed instead. Tokens agree at a cosine of 0.9999 and more.
    """
    return precision == "bf16" and (device != "cpu" or _cpu_multiplies_bfloat16())


@cache
def _cpu_multiplies_bfloat16() -> bool:
    """As oneDNN tells it: AVX-512 or the bfloat16 extension of ARM. False where it does not tell."""
    import torch

    told = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return told is not None and bool(told())
