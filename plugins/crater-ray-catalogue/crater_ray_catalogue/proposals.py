"""Pairs that geometry proposes: centres within so many diameters, diameters within a ratio."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
ROWS = 4096  # entries asked at once


@dataclass(frozen=True, slots=True)
class Places:
    """N entries: degrees north and east, kilometres."""

    lat: Floats
    lon: Floats
    diameter: Floats

    def __len__(self) -> int:
        return len(self.lat)


@dataclass(frozen=True, slots=True)
class CandidatePairs:
    """P pairs: rows of the first and of the second catalogue."""

    first: Ints
    second: Ints
    distance: Floats  # along the ground, in diameters (the geometric mean of the two)
    ratio: Floats  # log of the first diameter over the second


def propose(
    first: Places, second: Places | None, radius_km: float, reach: float, ratio: float
) -> CandidatePairs:
    """Every pair within `reach` diameters whose diameters differ by at most the factor `ratio`.

    second None: of one catalogue with itself, each pair once.
    """
    other = first if second is None else second
    here, there = unit(first), unit(other)
    tree = cKDTree(there)
    widest = reach * np.sqrt(ratio) * first.diameter / radius_km  # radians: of the largest counterpart
    reached = 2 * np.sin(np.minimum(widest, np.pi) / 2)  # as a chord
    pieces: list[tuple[Ints, Ints]] = []
    for start in range(0, len(first), ROWS):
        rows = slice(start, start + ROWS)
        found = tree.query_ball_point(here[rows], reached[rows])
        counts = np.fromiter((len(some) for some in found), np.int64, len(found))
        one = np.repeat(np.arange(start, start + len(found)), counts)
        two = np.fromiter((row for some in found for row in sorted(some)), np.int64, int(counts.sum()))
        keep = np.abs(np.log(first.diameter[one] / other.diameter[two])) <= np.log(ratio) + 1e-12
        if second is None:
            keep &= one < two
        pieces.append((one[keep], two[keep]))
    one = np.concatenate([piece[0] for piece in pieces]) if pieces else np.zeros(0, np.int64)
    two = np.concatenate([piece[1] for piece in pieces]) if pieces else np.zeros(0, np.int64)
    chord = np.linalg.norm(here[one] - there[two], axis=1)
    kilometres = 2 * radius_km * np.arcsin(np.minimum(chord / 2, 1.0))
    distance = kilometres / np.sqrt(first.diameter[one] * other.diameter[two])
    near = distance <= reach
    one, two, distance = one[near], two[near], distance[near]
    return CandidatePairs(one, two, distance, np.log(first.diameter[one] / other.diameter[two]))


def unit(places: Places) -> Floats:
    """(N, 3) on the unit sphere."""
    lat, lon = np.radians(places.lat), np.radians(places.lon)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], 1)
