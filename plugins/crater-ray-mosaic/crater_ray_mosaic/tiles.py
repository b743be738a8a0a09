"""Index parts by place: tiles of the globe, divided where they hold too much, so that growth disturbs one.

A tile is named by its south-west corner and its side in degrees (n30e060x30); at one degree by hash bits too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

_SIDES = (60, 30, 15, 5, 1)  # each divides the one before


def tiles(
    ids: Sequence[str], lat: NDArray[np.float64], lon: NDArray[np.float64], most: int
) -> dict[str, list[int]]:
    """Rows by tile name, sorted by id inside, at most `most` each. lat, lon (N,) degrees, lon -180..180."""
    found: dict[str, list[int]] = {}
    _divide(np.arange(len(ids)), 0, ids, lat, lon, most, found)
    return {name: sorted(found[name], key=lambda row: ids[row]) for name in sorted(found)}


def _divide(
    rows: NDArray[np.int64],
    level: int,
    ids: Sequence[str],
    lat: NDArray[np.float64],
    lon: NDArray[np.float64],
    most: int,
    found: dict[str, list[int]],
) -> None:
    side = _SIDES[level]
    bottom = np.minimum(np.floor((lat[rows] + 90) / side), math.ceil(180 / side) - 1).astype(int) * side - 90
    left = np.minimum(np.floor((lon[rows] + 180) / side), 360 // side - 1).astype(int) * side - 180
    for south, west in sorted(set(zip(bottom.tolist(), left.tolist(), strict=True))):
        inside = rows[(bottom == south) & (left == west)]
        name = f"{'s' if south < 0 else 'n'}{abs(south):02d}{'w' if west < 0 else 'e'}{abs(west):03d}x{side}"
        if len(inside) <= most:
            found[name] = inside.tolist()
        elif level + 1 < len(_SIDES):
            _divide(inside, level + 1, ids, lat, lon, most, found)
        else:
            hashed(name, inside.tolist(), ids, most, found)


def hashed(
    name: str, rows: list[int], ids: Sequence[str], most: int, found: dict[str, list[int]], bit: int = 0
) -> None:
    """Adds `rows` to `found` as `name`, or as name-0, name-1, name-00 … by the bits of each id's hash."""
    if len(rows) <= most or bit == 64:
        found[name] = rows
        return
    for value in (0, 1):
        some = [row for row in rows if xxhash.xxh3_64_intdigest(ids[row].encode()) >> bit & 1 == value]
        if some:
            hashed(f"{name}-{value}" if bit == 0 else f"{name}{value}", some, ids, most, found, bit + 1)
