"""A figure a method: which pairs held, and the largest models seen from above. Pure drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

MODELS = 3  # drawn, the largest
SIDE = 3.4  # inches of a picture
INK, CAMERA, LINE, FAINT = "#1c1c1c", "#d03238", "#3d7dca", "#6a6a6a"
FAR = 3.0  # times the spread of the cameras: points beyond are not drawn

Array = np.ndarray[Any, Any]
Inliers = Sequence[tuple[str, str, int]]


def draw(
    path: Path,
    methods: Mapping[str, tuple[Inliers, Path]],
    models: Mapping[str, Sequence[Mapping[str, Any]]],
) -> None:
    """One row a method: its verified pairs as a matrix, images in order of name, and its largest models.

    methods: the verified pairs, and the npz of cameras and points (no file: no models).
    """
    columns = 1 + min(MODELS, max(len(found) for found in models.values()))
    figure = Figure(figsize=(SIDE * columns, (SIDE + 0.4) * len(methods)), layout="constrained")
    axes = figure.subplots(len(methods), columns, squeeze=False)
    names = sorted(
        {name for inliers, _ in methods.values() for first, second, _ in inliers for name in (first, second)}
    )
    for row, (method, (inliers, shapes)) in zip(axes, methods.items(), strict=True):
        _matrix(row[0], inliers, names, method)
        for place, axis in enumerate(row[1:]):
            axis.set_axis_off()
            if place < len(models[method]):
                with np.load(shapes, allow_pickle=False) as found:
                    held = [found[f"{kind}{place}"] for kind in ("centres", "points", "colours")]
                _model(axis, models[method][place], held, inliers)
    part = path.with_name(f".{path.name}")
    figure.savefig(part, dpi=130, format="png")
    part.replace(path)


def _matrix(axis: Axes, inliers: Inliers, names: Sequence[str], title: str) -> None:
    place = {name: number for number, name in enumerate(names)}
    first = np.array([place[one] for one, _, _ in inliers], np.int64)
    second = np.array([place[other] for _, other, _ in inliers], np.int64)
    counts = np.log10(np.array([count for _, _, count in inliers], float) + 1)
    down, across = np.concatenate([first, second]), np.concatenate([second, first])
    size = (SIDE * 50 / max(len(names), 20)) ** 2
    axis.scatter(across, down, c=np.tile(counts, 2), s=size, marker="s", cmap="viridis_r", linewidths=0)
    axis.set(xlim=(-1, len(names)), ylim=(len(names), -1), aspect="equal", xticks=[], yticks=[])
    axis.set_title(f"{title.replace('_', ' ')}: {len(inliers):,} verified pairs", fontsize=9, color=INK)
    axis.set_xlabel(f"{len(names)} images by name", fontsize=8, color=FAINT)


def _model(axis: Axes, model: Mapping[str, Any], held: Sequence[Array], inliers: Inliers) -> None:
    centres, points, colours = held
    flat = from_above(centres, points)
    cameras, ground = flat(centres), flat(points)
    spread = float(np.abs(cameras).max(initial=1e-9)) * FAR
    near = (np.abs(ground) < spread).all(1)
    axis.scatter(ground[near, 0], ground[near, 1], c=colours[near] / 255.0, s=0.6, linewidths=0)
    place = {name: number for number, name in enumerate(model["images"])}
    lines = [
        cameras[[place[first], place[second]]]
        for first, second, _ in inliers
        if first in place and second in place
    ]
    axis.add_collection(LineCollection(lines, colors=LINE, linewidths=0.4, alpha=0.5))
    axis.scatter(cameras[:, 0], cameras[:, 1], c=CAMERA, s=9, zorder=3, linewidths=0)
    axis.set_aspect("equal")
    axis.set_title(f"{len(model['images'])} images, {model['points']:,} points", fontsize=9, color=INK)


def from_above(centres: Array, points: Array) -> Any:
    """A function (n, 3) -> (n, 2): onto the plane of the ground, or of the cameras where there is none."""
    base = points if len(points) >= 3 else centres
    if len(base) < 3:
        return lambda rows: rows[:, :2]
    away = np.linalg.norm(base - np.median(base, 0), axis=1)
    base = base[away <= np.quantile(away, 0.9)]  # a few points always lie far off
    middle = base.mean(0)
    plane = np.linalg.svd(base - middle, full_matrices=False)[2][:2]
    return lambda rows: (rows - middle) @ plane.T
