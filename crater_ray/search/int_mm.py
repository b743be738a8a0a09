"""Which shapes of `torch._int_mm` are believed: those whose products were right on this CPU, tried once each.

It is a private function with one kernel for each kind of CPU. On CPUs with AMX it is wrong for an inner
dimension of 1. So each class of shapes is tried before its first use, on integers whose sums are known.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

EDGE = 64  # rows: kernels have tiles of 16, 32 or 64, and other code for the rows that are left over
LARGEST = 127  # of a code
Product = Callable[..., Any]  # torch._int_mm


def believed(rows: int, dim: int, columns: int) -> bool:
    """Whether `torch._int_mm` is right for (rows, dim) x (dim, columns).

    Tried once a process for each dim, number of columns, and class of rows: small ones each, larger ones by
    what is left over of whole tiles.
    """
    product = getattr(torch, "_int_mm", None)
    if product is None:
        return False
    return _right(product, rows if rows <= 2 * EDGE else 2 * EDGE + rows % EDGE, dim, columns)


@cache
def _right(product: Product, rows: int, dim: int, columns: int) -> bool:
    left, right = _tried(rows, dim, 0), _tried(columns, dim, 1).t().contiguous()
    out = torch.full((rows, columns), LARGEST, dtype=torch.int32)
    try:
        product(left, right, out=out)
    except (RuntimeError, TypeError):  # not built for this CPU
        return False
    return torch.equal(out.double(), left.double() @ right.double())  # exact: sums stay far below 2^53


def _tried(count: int, dim: int, seed: int) -> Tensor:
    """(count, dim) int8: the largest sums there can be, then codes of either extreme, then any."""
    draws = torch.Generator().manual_seed(seed)
    codes = torch.randint(-LARGEST, LARGEST + 1, (count, dim), generator=draws)
    codes[::2] = torch.where(codes[::2] < 0, -LARGEST, LARGEST)
    codes[:1] = LARGEST
    codes[1:2] = -LARGEST
    return codes.to(torch.int8)
