"""A contact sheet: each query beside its hits, with the tokens that matched. Pure drawing."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from PIL import Image

from crater_ray.errors import UserError

Point = tuple[float, float]  # (x, y) in 0..1 of the image, y down
Line = tuple[Point, Point, float]  # in the query, in the hit, cosine

CELL, GAP, LINK = 1.75, 0.14, 0.5  # inches: an image, between hits, between the query and its first hit
CAPTION, HEADER, MARGIN = 0.42, 0.5, 0.2
LINKED, OTHERS = 10, 5  # pairs of tokens drawn in the first hit, in each other
FONT = "DejaVu Sans"  # comes with matplotlib
DPI, LONGEST = 150, 32_000  # pixels; a PNG of more is of no use to anybody
RIGHT, WRONG, PLAIN, INK, FAINT = "#1a8f3c", "#d03238", "#9a9a9a", "#1c1c1c", "#6a6a6a"
COLOURS = (
    "#ffd23f",
    "#3ec1ff",
    "#ff6fae",
    "#7bed6b",
    "#ff8c42",
    "#b491ff",
    "#2ee6c5",
    "#ff5757",
    "#d7f04a",
    "#8fa8ff",
)


@dataclass(frozen=True, slots=True)
class SheetHit:
    """One answer as it is drawn: image (H, W, 3) uint8."""

    image: np.ndarray[Any, Any]
    label: str
    score: float
    correct: bool | None = None  # None: not known, so no verdict is drawn
    lines: Sequence[Line] = field(default=())


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One query and its hits, best first: image (H, W, 3) uint8."""

    image: np.ndarray[Any, Any]
    label: str
    hits: Sequence[SheetHit]


def draw(rows: Sequence[SheetRow], path: str | Path, *, title: str) -> Path:
    """The path of a file that holds `png` of the same rows. Raises UserError when it cannot be written."""
    drawn, path = png(rows, title=title), Path(path)
    try:
        path.write_bytes(drawn)
    except OSError as error:
        raise UserError(f"cannot write the sheet {path}: {error.strerror or error}") from error
    return path


def png(rows: Sequence[SheetRow], *, title: str) -> bytes:
    """A PNG with a row a query: hits in rank order, framed green or red where the truth is known.

    Lines join the strongest pairs of tokens; a query token has the same colour and number in every hit.
    Raises ValueError for an image that is not (H, W, 3) uint8.
    """
    columns = max((len(row.hits) for row in rows), default=0)
    width = 2 * MARGIN + CELL + LINK + max(columns, 2) * (CELL + GAP) - GAP
    height = 2 * MARGIN + HEADER + len(rows) * (CELL + CAPTION)
    figure = Figure(figsize=(width, height), facecolor="white")
    figure.text(
        MARGIN / width,
        1 - (MARGIN + 0.2) / height,
        _shown(title, int(width * 8)),
        fontsize=13,
        color=INK,
        weight="bold",
        va="center",
        family=FONT,
        parse_math=False,
    )
    for place, row in enumerate(rows):
        _draw_row(figure, row, MARGIN + HEADER + place * (CELL + CAPTION), width, height)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=min(DPI, LONGEST / height), metadata={"Software": None})
    return drawn.getvalue()


def _draw_row(figure: Figure, row: SheetRow, top: float, width: float, height: float) -> None:
    def cell(left: float, image: np.ndarray[Any, Any]) -> Axes:
        axes = figure.add_axes((left / width, 1 - (top + CELL) / height, CELL / width, CELL / height))
        axes.imshow(_small(image), aspect="equal", extent=(0, image.shape[1], image.shape[0], 0))
        axes.set(xticks=[], yticks=[])
        return axes

    query = cell(MARGIN, row.image)
    _frame(query, INK, 1.2)
    _caption(query, "query", INK, row.label)
    shown = [
        sorted(hit.lines, key=lambda line: -line[2])[: OTHERS if rank else LINKED]
        for rank, hit in enumerate(row.hits)
    ]
    numbers: dict[Point, int] = {}  # of the query's tokens, strongest of the first hit first
    for lines in shown:
        for start, _, _ in lines:
            numbers.setdefault(start, len(numbers) + 1)
    for rank, (hit, lines) in enumerate(zip(row.hits, shown, strict=True)):
        axes = cell(MARGIN + CELL + LINK + rank * (CELL + GAP), hit.image)
        known = hit.correct is not None
        colour = (RIGHT if hit.correct else WRONG) if known else PLAIN
        mark = (" ✓" if hit.correct else " ✗") if known else ""
        _frame(axes, colour, 3.5 if known else 1.2)
        _caption(axes, f"{rank + 1}{mark} · {hit.score:.3f}", colour if known else INK, hit.label)
        for start, end, similarity in lines:
            _dot(axes, end, hit.image, numbers[start])
            if rank == 0:
                here, there = _scaled(start, row.image), _scaled(end, hit.image)
                figure.add_artist(
                    ConnectionPatch(
                        here,
                        there,
                        "data",
                        "data",
                        axesA=query,
                        axesB=axes,
                        color=_colour(numbers[start]),
                        shrinkA=4.2,
                        shrinkB=4.2,
                        linewidth=1.1,
                        alpha=float(np.clip(similarity, 0.35, 0.95)),
                    )
                )
    for start, number in numbers.items():
        _dot(query, start, row.image, number)


def _dot(axes: Axes, point: Point, image: np.ndarray[Any, Any], number: int) -> None:
    x, y = _scaled(point, image)
    axes.plot(
        [x],
        [y],
        marker="o",
        markersize=8.5,
        color=_colour(number),
        markeredgecolor=INK,
        markeredgewidth=0.7,
        zorder=5,
        clip_on=False,
    )
    axes.text(
        x,
        y,
        str(number),
        fontsize=5.5,
        color=INK,
        ha="center",
        va="center_baseline",
        weight="bold",
        family=FONT,
        zorder=6,
    )


def _frame(axes: Axes, colour: str, width: float) -> None:
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=width)


def _caption(axes: Axes, head: str, colour: str, label: str) -> None:
    box = axes.get_position(original=True)
    inch = box.height / CELL
    for down, text, size, ink, bold in ((0.12, head, 8.5, colour, "bold"), (0.27, label, 7, FAINT, "normal")):
        axes.figure.text(
            box.x0,
            box.y0 - down * inch,
            _shown(text, 30),
            fontsize=size,
            color=ink,
            weight=bold,
            va="center",
            family=FONT,
            parse_math=False,
        )


def _scaled(point: Point, image: np.ndarray[Any, Any]) -> Point:
    return point[0] * image.shape[1], point[1] * image.shape[0]


def _colour(number: int) -> str:
    return COLOURS[(number - 1) % len(COLOURS)]


def _small(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"a sheet draws (H, W, 3) uint8 images, not {image.shape} {image.dtype}")
    picture = Image.fromarray(image)
    picture.thumbnail((512, 512), reducing_gap=2.0)
    return np.asarray(picture)


def _shown(text: str, length: int) -> str:
    """The text on one line, its middle left out when it is long; what the font lacks becomes '?'."""
    text = "".join(letter if ord(letter) in _letters() else "?" for letter in " ".join(text.split()))
    if len(text) <= length:
        return text
    return f"{text[: length // 3]}…{text[len(text) - (length - length // 3 - 1) :]}"


@cache
def _letters() -> frozenset[int]:
    return frozenset(font_manager.get_font(font_manager.findfont(FONT)).get_charmap())
