"""Heat maps over images as one PNG: a row an image, its attention by head, then its strongest clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from crater_ray.errors import UserError
from crater_ray.files import whole_file

Array = NDArray[Any]
CELL, LABEL, DPI = 1.5, 0.35, 130  # inches, inches, pixels an inch


@dataclass(frozen=True, slots=True)
class Row:
    """One image and its maps: image (H, W, 3) uint8; maps (M, rows, columns), each scaled by itself."""

    label: str
    image: Array
    maps: Array
    names: Sequence[str]


def draw(rows: Sequence[Row], path: Path, title: str) -> Path:
    """The path of the PNG. Raises UserError when it cannot be written."""
    columns = 1 + max(len(row.names) for row in rows)
    tall = [CELL * row.image.shape[0] / row.image.shape[1] for row in rows]
    width, height = columns * CELL, sum(tall) + len(rows) * LABEL + 0.4
    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(len(rows), columns, squeeze=False, height_ratios=tall)
    for row, line in zip(rows, axes, strict=True):
        _plain(line[0], row.image, row.label)
        for cell, values, name in zip(line[1:], row.maps, row.names, strict=False):
            _plain(cell, row.image, name)
            height_px, width_px = row.image.shape[:2]
            cell.imshow(
                values,
                cmap="magma",
                alpha=0.6,
                interpolation="bilinear",
                extent=(0, width_px, height_px, 0),
                vmin=float(values.min()),
                vmax=float(values.max()) or 1.0,
            )
        for cell in line[1 + len(row.names) :]:
            cell.set_axis_off()
    try:
        with whole_file(path) as own:
            figure.savefig(own, dpi=DPI, metadata={"Software": None})
    except OSError as error:
        raise UserError(f"cannot write the sheet {path}: {error.strerror or error}") from None
    return path


def strongest(shares: Array, count: int) -> NDArray[np.int64]:
    """(min(count, K),) the clusters whose shares (K, T) vary most over the image."""
    order: NDArray[np.int64] = np.argsort(-shares.std(axis=1), kind="stable")[:count]
    return order


def _plain(cell: Axes, image: Array, name: str) -> None:
    cell.imshow(image)
    cell.set_title(name, fontsize=6, parse_math=False)
    cell.set(xticks=[], yticks=[])
