"""One picture of a merge: where pairs lie apart, what each clue weighs, and how sure the pairs are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from crater_ray_catalogue.decide import Decided


def draw(decided: Decided, reach: float, path: Path) -> Path:
    """Three panels as PNG: distances of pairs and of those kept, log of match over chance, probabilities."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    edges = np.linspace(0, reach, 26)
    pairs, p = decided.pairs, decided.linkage.probability
    left.hist(pairs.distance, edges, color="0.8", label="all pairs within reach")
    left.hist(pairs.distance, edges, weights=p, color="tab:orange", label="of them one crater, expected")
    left.set(xlabel="distance, diameters", ylabel="pairs")
    left.legend(frameon=False, loc="upper left")
    for name, ratio in decided.linkage.ratios.items():
        at = (np.arange(ratio.shape[1]) + 0.5) / ratio.shape[1]
        for number, line in enumerate(ratio):
            label = name if number == 0 else None
            colour = {"distance": "tab:blue", "ratio": "tab:green"}.get(name, "tab:red")
            middle.plot(at, line, color=colour, alpha=1 - 0.2 * number, label=label)
    middle.axhline(0, color="0.7", lw=0.8)
    middle.set(
        xlabel="level: near to far, small to large, unlike to alike", ylabel="log of match over chance"
    )
    middle.legend(frameon=False, loc="lower left")
    right.hist(p[p > 0.01], np.linspace(0, 1, 21), color="tab:orange")
    right.set(xlabel="probability", ylabel="pairs", yscale="log")
    figure.savefig(path, format="png", dpi=110)
    return path
