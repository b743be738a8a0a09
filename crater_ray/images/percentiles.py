"""Exact percentiles of samples that come strip by strip: radix selection, 2 counts of 65,536 bins.

The samples are read twice and never copied as a whole, where np.percentile sorts a float64 copy of all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Strips = Callable[[], Iterable[Array]]
_LOW = np.uint32(0xFFFF)


def percentiles(strips: Strips, wanted: Sequence[float]) -> list[float]:
    """np.percentile (linear) of the samples of all strips, each 1-D uint16, int32 or float32 without NaN.

    An empty list where there is no sample.
    """
    high = np.zeros(1 << 16, np.int64)
    for strip in strips():
        high += np.bincount((_keys(strip) >> np.uint32(16)).astype(np.int64), minlength=1 << 16)
    count = int(high.sum())
    if count == 0:
        return []
    places = [share / 100.0 * (count - 1) for share in wanted]
    ranks = sorted({rank for at in places for rank in (math.floor(at), math.ceil(at))})
    upto = np.cumsum(high)
    bins = {rank: int(np.searchsorted(upto, rank, side="right")) for rank in ranks}
    low = {one: np.zeros(1 << 16, np.int64) for one in bins.values()}
    kind: np.dtype[Any] = np.dtype(np.float32)
    for strip in strips():
        kind, keys = strip.dtype, _keys(strip)
        for one, counts in low.items():
            inside = keys[keys >> np.uint32(16) == one] & _LOW
            counts += np.bincount(inside.astype(np.int64), minlength=1 << 16)
    values = {}
    for rank, one in bins.items():
        before = int(upto[one - 1]) if one else 0
        rest = int(np.searchsorted(np.cumsum(low[one]), rank - before, side="right"))
        values[rank] = _value(one << 16 | rest, kind)
    return [
        values[math.floor(at)] + (values[math.ceil(at)] - values[math.floor(at)]) * (at - math.floor(at))
        for at in places
    ]


def _keys(strip: Array) -> Array:
    """uint32 in the order of the samples."""
    if strip.dtype == np.uint16:
        return strip.astype(np.uint32)
    if strip.dtype == np.int32:
        return strip.view(np.uint32) ^ np.uint32(1 << 31)
    bits = np.ascontiguousarray(strip + np.float32(0)).view(np.uint32)  # -0 is 0
    return np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(1 << 31))


def _value(key: int, kind: np.dtype[Any]) -> float:
    if kind == np.uint16:
        return float(key)
    if kind == np.int32:
        return float(key - (1 << 31))
    bits = key & 0x7FFFFFFF if key >> 31 else ~key & 0xFFFFFFFF
    return float(np.array([bits], np.uint32).view(np.float32)[0])
