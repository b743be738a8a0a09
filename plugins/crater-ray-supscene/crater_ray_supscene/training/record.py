"""What a run tells of itself: log.jsonl, one object a line, and the curves drawn from it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crater_ray.errors import CraterRayError
from crater_ray.files import whole_file, write_whole

LOG, CURVES, RUN = "log.jsonl", "curves.png", ".run"


def check_ours(out: Path, run: str) -> None:
    """Raises CraterRayError where a later run has taken `out` over, as after a driver was killed."""
    if (out / RUN).read_text(encoding="utf-8") != run:
        raise CraterRayError(f"another run has taken over {out}; this one stops")


def append(out: Path, entry: dict[str, Any]) -> None:
    with (out / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def read(out: Path) -> list[dict[str, Any]]:
    """Every whole line; a line that a killed process left half is passed over."""
    try:
        lines = (out / LOG).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    entries = []
    for line in lines:
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries


def rewind(out: Path, step: int) -> None:
    """Forgets what came after `step`, which is done again. Held-out numbers before the first step stay."""
    kept = [entry for entry in read(out) if entry["step"] <= step]
    write_whole(out / LOG, "".join(json.dumps(entry) + "\n" for entry in kept).encode())


def draw_curves(out: Path) -> Path:
    """curves.png: the loss, the learning rate, and each held-out number, over steps."""
    entries = read(out)
    steps = [entry for entry in entries if "loss" in entry]
    held = [entry for entry in entries if "held_out" in entry]
    figure = Figure(figsize=(13, 4), layout="constrained")
    loss, rate, kept = figure.subplots(1, 3)
    _line(loss, "loss", ((entry["step"], entry["loss"]) for entry in steps))
    if steps and min(entry["loss"] for entry in steps) > 0:
        loss.set_yscale("log")
    _line(rate, "learning rate", ((entry["step"], entry["lr"]) for entry in steps))
    names = [name for name in (held[-1]["held_out"] if held else {}) if _shown(name)]
    for name in names:
        points = [(e["step"], e["held_out"][name]) for e in held if name in e["held_out"]]
        kept.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1.2, label=name)
    if names:
        kept.legend(fontsize=7)
        kept.set_ylim(0, 1)
    kept.set(title="held out", xlabel="step")
    path = out / CURVES
    with whole_file(path) as own:
        figure.savefig(own, dpi=120, metadata={"Software": None})
    return path


def _line(axes: Axes, title: str, points: Iterable[tuple[float, float]]) -> None:
    found = list(points)
    if found:
        axes.plot(*zip(*found, strict=True), linewidth=1.0)
    axes.set(title=title, xlabel="step")
    axes.grid(alpha=0.3)


def _shown(name: str) -> bool:
    """One curve of each kind: mAP, and the recall of the middle cut."""
    return name.endswith(("mAP", "recall@10"))
