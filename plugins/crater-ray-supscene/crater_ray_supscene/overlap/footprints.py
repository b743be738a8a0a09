"""How much two planetary views overlap: the areas of their footprints on the sphere, intersected.

A view is a square on the plane that touches the sphere at its centre, projected orthographically. Its sides
are small circles. Areas are taken in Lambert's equal-area projection about each pair's middle (Snyder, Map
Projections, USGS Professional Paper 1395, chapter 24), where areas are those of the sphere.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from crater_ray_supscene.overlap.graph import Edges

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
SIDE = 16  # points a side: what the chords between them miss is below 1e-4 of a view's area
PAIRS = 20_000  # at a time


def footprint_edges(lat: Floats, lon: Floats, half_width: Floats, rotation: Floats | None = None) -> Edges:
    """Every pair that overlaps, once, with its intersection over the smaller area. Exact to 1e-4.

    lat, lon (N,) degrees of the centres; half_width (N,) in radii of the sphere; rotation (N,) degrees, where
    the image's up points, clockwise from north. Raises ValueError for a view with corners beyond the limb.
    """
    if (half_width <= 0).any() or (half_width >= np.sqrt(0.5)).any():
        raise ValueError("a half width lies outside 0..0.707 radii: its corners are beyond the limb")
    centres = _units(lat, lon)
    outlines = outline(lat, lon, half_width, np.zeros(len(lat)) if rotation is None else rotation)
    first, second = _near(centres, half_width)
    kept: list[tuple[Integers, Integers, Floats]] = []
    for start in range(0, len(first), PAIRS):
        a, b = first[start : start + PAIRS], second[start : start + PAIRS]
        middle = centres[a] + centres[b]
        one, other = _polygons(outlines[a], middle), _polygons(outlines[b], middle)
        shared = shapely.area(shapely.intersection(one, other))
        share = shared / np.minimum(shapely.area(one), shapely.area(other))
        real = share > 0
        kept.append((a[real], b[real], np.minimum(share[real], 1.0)))
    if not kept:
        none = np.zeros(0, np.int64)
        return Edges(none, none, np.zeros(0, np.float32))
    rows, columns, weights = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    return Edges(rows, columns, weights.astype(np.float32))


def outline(lat: Floats, lon: Floats, half_width: Floats, rotation: Floats) -> Floats:
    """(N, 4 SIDE, 3) unit vectors round each view's border, anticlockwise from its lower left."""
    steps = np.linspace(-1, 1, SIDE, endpoint=False)
    ones = np.ones(SIDE)
    right = np.concatenate([steps, ones, -steps, -ones]) * half_width[:, None]
    up = np.concatenate([-ones, steps, ones, -steps]) * half_width[:, None]
    turn = np.radians(rotation)[:, None]
    east = right * np.cos(turn) + up * np.sin(turn)
    north = up * np.cos(turn) - right * np.sin(turn)
    toward = np.sqrt(1 - east * east - north * north)
    phi, away = np.radians(lat), np.radians(lon)
    zero = np.zeros_like(phi)
    to_east = np.stack([-np.sin(away), np.cos(away), zero], 1)
    to_north = np.stack([-np.sin(phi) * np.cos(away), -np.sin(phi) * np.sin(away), np.cos(phi)], 1)
    found: Floats = (
        east[..., None] * to_east[:, None]
        + north[..., None] * to_north[:, None]
        + toward[..., None] * _units(lat, lon)[:, None]
    )
    return found


def _polygons(points: Floats, about: Floats) -> NDArray[np.object_]:
    """(P,) polygons of outlines (P, V, 3) in the equal-area projection about each pair's middle (P, 3)."""
    centre = about / np.linalg.norm(about, axis=1, keepdims=True)
    axis = np.eye(3)[np.abs(centre).argmin(1)]  # never along the centre
    across = np.cross(axis, centre)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    along = np.cross(centre, across)
    stretch = np.sqrt(2 / (1 + np.einsum("pvd,pd->pv", points, centre)))  # Snyder 24-2
    x = np.einsum("pvd,pd->pv", points, across) * stretch
    y = np.einsum("pvd,pd->pv", points, along) * stretch
    polygons: NDArray[np.object_] = shapely.polygons(np.stack([x, y], 2))
    return polygons


def _near(centres: Floats, half_width: Floats) -> tuple[Integers, Integers]:
    """Pairs (first < second) whose bounding circles meet; views of like size are searched together."""
    reach = np.arcsin(np.sqrt(2) * half_width)
    sizes = np.floor(np.log2(reach)).astype(np.int64)
    groups = [np.flatnonzero(sizes == size) for size in np.unique(sizes)]
    trees = [cKDTree(centres[group]) for group in groups]
    found: list[NDArray[np.int64]] = []
    for i, (here, tree) in enumerate(zip(groups, trees, strict=True)):
        for there, other in zip(groups[i:], trees[i:], strict=True):
            angle = min(np.pi, reach[here].max() + reach[there].max())
            close = tree.sparse_distance_matrix(other, 2 * np.sin(angle / 2), output_type="ndarray")
            a, b = here[close["i"]], there[close["j"]]
            chord = 2 * np.sin(np.minimum(np.pi, reach[a] + reach[b]) / 2)
            keep = (close["v"] <= chord) & (a != b)
            found.append(np.stack([np.minimum(a, b)[keep], np.maximum(a, b)[keep]]))
    pairs = np.unique(np.concatenate(found, 1), axis=1) if found else np.zeros((2, 0), np.int64)
    return pairs[0], pairs[1]


def _units(lat: Floats, lon: Floats) -> Floats:
    phi, away = np.radians(lat), np.radians(lon)
    return np.stack([np.cos(phi) * np.cos(away), np.cos(phi) * np.sin(away), np.sin(phi)], 1)


def meeting(views: Floats, others: Floats) -> NDArray[np.bool_]:
    """(N,) which views' bounding circles meet one of the others'; what does not meet shares no ground.

    views (N, 3) and others (M, 3): lat, lon, degrees; half width, radii.
    """
    found = np.zeros(len(views), bool)
    reach, theirs = (np.arcsin(np.minimum(1, np.sqrt(2) * array[:, 2])) for array in (views, others))
    here, there = _units(views[:, 0], views[:, 1]), _units(others[:, 0], others[:, 1])
    for start in range(0, len(views), 1024):
        part = slice(start, start + 1024)
        angle = np.arccos(np.clip(here[part] @ there.T, -1, 1))
        found[part] = (angle <= reach[part, None] + theirs).any(1)
    return found
