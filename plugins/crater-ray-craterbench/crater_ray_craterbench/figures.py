"""The bench's figures: mAP against K, against bytes, and what two stages recover."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from crater_ray.files import write_whole
from crater_ray_craterbench.results import Bench
from crater_ray_craterbench.sweep import Configuration

SIZE, DPI = (6.4, 4.2), 150
COLOURS = ("#1f5fa8", "#c4541c", "#3a8a4d", "#7a4fa3", "#8a8a8a")


def draw(bench: Bench) -> list[Path]:
    """The paths of the figures that have something to show."""
    made = {
        "map_by_k": _by_k(bench),
        "map_by_bytes": _by_bytes(bench),
        "two_stages": _stages(bench),
    }
    return [
        save(bench.job.out, bench.ledger.folder / f"{name}.png", figure)
        for name, figure in made.items()
        if figure
    ]


def save(root: Path, path: Path, figure: Figure) -> Path:
    """The path of a PNG. Raises StorageFull."""
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    write_whole(path, file.getvalue())
    return path


def axes(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    """A figure with one plain plot."""
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    plot = figure.add_subplot()
    plot.set_title(title, fontsize=10)
    plot.set_xlabel(x)
    plot.set_ylabel(y)
    plot.grid(alpha=0.25)
    plot.spines[["top", "right"]].set_visible(False)
    return figure, plot


def _by_k(bench: Bench) -> Figure | None:
    have = bench.have
    lines = {
        f"{have.seeds[0]} seeds, residual": [have.instance(k) for k in have.ks],
        f"{have.seeds[0]} seeds, raw": [have.instance(k, assign="none") for k in have.ks],
        "whitened, farthest seeds": [have.whitened(k) for k in have.ks],
        "random seeds, residual": [have.instance(k, seeds="random") for k in have.ks],
        "random seeds, raw": [have.instance(k, seeds="random", assign="none") for k in have.ks],
    }
    figure, plot = axes(_title(bench, "tokens kept"), "K, tokens an image", "mAP")
    drawn = [
        points(
            plot,
            [(found["k"] * 1.02 ** (place - 1.5), found) for one in line if (found := _found(bench, one))],
            name,
            COLOURS[place],  # side by side, so that intervals can be told apart
        )
        for place, (name, line) in enumerate(lines.items())
    ]
    whole = _found(bench, have.instance(have.total))
    if whole:
        plot.axhline(whole["image_map"], color="#8a8a8a", linestyle="--", linewidth=1, zorder=0)
        plot.annotate(
            f"all {have.total}",
            (0.01, whole["image_map"]),
            xycoords=("axes fraction", "data"),
            va="bottom",
            fontsize=8,
            color="#6a6a6a",
        )
    _powers(plot, have.ks)
    plot.legend(fontsize=8, frameon=False, loc="lower right")
    return figure if any(drawn) else None


def _by_bytes(bench: Bench) -> Figure | None:
    have, axes_of = bench.have, bench.axes
    families: dict[str, Sequence[Configuration]] = {
        "instance tokens, fp16": [have.instance(k) for k in have.ks],
        "whitened, farthest seeds": axes_of["whitening"],
        f"K = {have.k}, by codec": [one for one in axes_of["codec"] if one.codec != "fp16"],
        "one pooled vector": axes_of["pooling"],
    }
    figure, plot = axes(_title(bench, "what an image costs"), "bytes an image, every stage", "mAP")
    drawn = []
    for (name, members), colour in zip(families.items(), COLOURS, strict=False):
        there = sorted(
            ((found["bytes"], found, _label(one, found)) for one in members if (found := _found(bench, one))),
            key=lambda point: point[0],
        )
        joined = name.startswith("instance")
        drawn.append(points(plot, [(x, found) for x, found, _ in there], name, colour, joined=joined))
        for x, found, label in there:
            plot.annotate(
                label,
                (x, found["image_map"]),
                xytext=(4, 4),
                textcoords="offset points",
                fontsize=6.5,
                color=colour,
            )
    plot.set_xscale("log")
    plot.legend(fontsize=8, frameon=False, loc="best")
    return figure if any(drawn) else None


def _stages(bench: Bench) -> Figure | None:
    base = bench.find(bench.have.instance(bench.have.k))
    points = [(one.candidates, found) for one in bench.axes["stages"] if (found := bench.find(one))]
    if not base or not base["image_map"] or not points:
        return None
    figure, plot = axes(
        _title(bench, f"two stages: {bench.suite.shortlist.name}, then K = {bench.have.k}"),
        "S, images whose tokens are read",
        "mAP, of the exact scan's",
    )
    shares = [found["image_map"] / base["image_map"] for _, found in points]
    plot.plot([s for s, _ in points], shares, marker="o", color=COLOURS[0])
    for (s, _), share in zip(points, shares, strict=True):
        plot.annotate(
            f"{100 * share:.1f} %",
            (s, share),
            xytext=(6, -12),
            textcoords="offset points",
            fontsize=8,
        )
    plot.axhline(1.0, color="#8a8a8a", linestyle="--", linewidth=1, zorder=0)
    plot.margins(y=0.15)
    _powers(plot, [s for s, _ in points])
    return figure


def points(
    plot: Axes, points: Sequence[tuple[float, dict[str, Any]]], name: str, colour: str, *, joined: bool = True
) -> bool:
    """Points with their intervals; whether there were any."""
    if not points:
        return False
    values = [found["image_map"] for _, found in points]
    below = [max(0.0, found["image_map"] - found["low"]) for _, found in points]
    above = [max(0.0, found["high"] - found["image_map"]) for _, found in points]
    plot.errorbar(
        [x for x, _ in points],
        values,
        yerr=[below, above],
        label=name,
        color=colour,
        marker="o",
        markersize=4,
        linewidth=1.5 if joined else 0,
        elinewidth=0.7,
        capsize=1.5,
    )
    return True


def _powers(plot: Axes, ticks: Sequence[int]) -> None:
    plot.set_xscale("log", base=2)
    plot.set_xticks(list(ticks), [str(tick) for tick in ticks])
    plot.minorticks_off()


def _found(bench: Bench, one: Configuration) -> dict[str, Any] | None:
    return bench.find(bench.planned(one))


def _label(one: Configuration, found: dict[str, Any]) -> str:
    if found["k"] == 1:
        return one.aggregator
    return f"{found['k']}" if one.codec == "fp16" else one.codec


def _title(bench: Bench, what: str) -> str:
    return (
        f"{bench.job.out.name}: {what}, {len(bench.places)} queries, {len(bench.suite.gallery.items)} images"
    )
