"""Trainings that differ in one choice, each within the same budget, from one cached trunk: held-out mAP.

    python benchmarks/ablations.py [--steps 240] [--threads 2] [--only NAME …] [--set KEY=VALUE …] \
        [--folder artefacts/ablations] [--figure docs/pictures/ablations.png]

Every run is `crater-ray train` of ablations.toml with a few of its keys changed. It gets as many steps as
take as long as `--steps` of that file's own: where one costs more or less, a few of either, in turn, tell by
how much, for this machine is quicker in one minute than in another. The schedule of the learning rate
is fitted to that. A run that is done is not done again, one that was killed goes on. One at a time: two, with
a core each, take twice as long.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from table import Report, arguments, show

HERE = Path(__file__).resolve().parent
JOB = HERE / "ablations.toml"
PROBE = 24  # steps that tell what one takes; the first eight are left out
DEFAULT = "baseline"
GRAPH = ("scenes.0.overlap=footprint", "loss.name=soft_supcon", "loss.positive=0.25")
ALONE = ("loss.late=0.0",)  # the loss on vectors alone, for losses that have no late term
RUNS: dict[str, dict[str, tuple[str, ...]]] = {  # what differs: name: keys changed
    "": {
        "not trained": ("train.steps=1", "train.lr=1e-12"),
        DEFAULT: (),  # cls and tokens, six views, 21 craters a step, two blocks, SupCon
    },
    "trained on": {
        "cls": ("aggregator.name=trained_cls", "loss.late=0.0"),
        "tokens": ("loss.vector=0.0",),
    },
    "views a crater": {
        "2": ("sampling.nodes=2", "sampling.subgraphs=63"),
        "12, of half the craters": (  # as many views in all, and each crater drawn as often
            "sampling.nodes=12",
            "sampling.subgraphs=10",
            "scenes.0.reader.queries_per_crater=12",
            "scenes.0.reader.craters=2138",
        ),
    },
    "overlaps": {
        "hard": (*GRAPH, "loss.name=supcon"),
        "soft": GRAPH,
    },
    "blocks": {"1": ("train.blocks=1",), "4": ("train.blocks=4",)},
    "subgraph": {
        str(nodes): (
            *GRAPH,
            "scenes.0.draw=scene",
            f"sampling.nodes={nodes}",
            f"sampling.subgraphs={128 // nodes}",
        )
        for nodes in (8, 16, 32, 64)
    },
    "aggregator": {
        "DiVLAD": ("aggregator.name=divlad",),
        "DiVLAD without its gate": ("aggregator.name=divlad", "aggregator.gate=false"),
    },
    "loss on vectors alone": {
        "SupCon": ALONE,
        "triplet": ("loss.name=triplet", *ALONE),
        "ArcFace": ("loss.name=arcface", *ALONE),
    },
}
COSTLY = ("train.blocks", "loss.late")  # keys on which the time of so many images depends
COLUMNS = {"any": "any mAP", "any, late": "any late mAP", "near": "near mAP", "near, late": "near late mAP"}


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=240, help="of the baseline; others take as long")
    parser.add_argument("--only", action="append", help="a row of the table, as it is named there")
    parser.add_argument("--folder", type=Path, default=Path("artefacts/ablations"))
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of the job in every run")
    parser.add_argument("--figure", type=Path, help="draw the table's mAP under any sun there")
    options = parser.parse_args()
    common = (f"cluster.threads={options.threads}", "train.whole=0.0", *options.set)
    runs = {
        f"{differs}: {name}" if differs else name: changes
        for differs, some in RUNS.items()
        for name, changes in some.items()
    }
    for label in options.only or runs:
        if label not in runs:
            sys.exit(f"no run {label!r}; there are: {', '.join(runs)}")
        _trained(options.folder, label, runs[label], options.steps, common)
    rows: list[list[Any]] = []
    keys: dict[str, float] = {}
    left: list[str] = []
    for label in runs:
        folder = options.folder / _slug(label)
        if not (folder / "model").exists():
            left.append(label)
            continue
        log = _log(folder)
        found = [line["held_out"] for line in log if "held_out" in line][-1]
        steps = sum("seconds" in line for line in log)
        rows.append([label, steps, *(f"{found[key]:.3f}" for key in COLUMNS.values())])
        keys |= {f"{label}, {column}": found[key] for column, key in COLUMNS.items()}
    if options.figure and rows:
        _drawn(rows, options.figure)
    show(
        Report(
            title="One choice changed, the same budget",
            columns=("run", "steps", *(f"mAP {column}" for column in COLUMNS)),
            rows=rows,
            keys=keys,
            notes=(
                f"each as long as {options.steps} steps of the baseline; "
                "12 views and blocks have their own trunks",
                "held-out craters and their views alone; late: late interaction in place of one vector",
                *([f"in every run {' '.join(options.set)}"] if options.set else []),
                *([f"not run yet: {', '.join(left)}"] if left else []),
            ),
        ),
        options,
        torch=version("torch"),
    )


def _drawn(rows: list[list[Any]], path: Path) -> None:
    """A dot for one vector and one for late interaction, a line a run; vertical lines are the baseline."""
    from matplotlib.figure import Figure

    labels = [row[0] for row in rows]
    kinds = (("one vector", 2, "tab:blue"), ("late interaction", 3, "tab:orange"))
    figure = Figure(figsize=(8, 1 + 0.27 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for told, column, colour in kinds:
        values = [float(row[column]) for row in rows]
        axes.axvline(values[labels.index(DEFAULT)], color=colour, linewidth=0.8, alpha=0.5)
        axes.plot(values, range(len(rows)), "o", color=colour, label=told)
    axes.set_yticks(range(len(rows)), labels)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("mAP of held-out craters under any sun; lines: the baseline's")
    figure.legend(loc="outside upper center", ncols=2)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _trained(root: Path, label: str, changes: tuple[str, ...], most: int, common: tuple[str, ...]) -> None:
    """Runs, or goes on with, one training; nothing when its model is there."""
    folder = root / _slug(label)
    if (folder / "model").exists():
        return
    told = folder / "steps.json"
    if not told.exists():
        costly = tuple(change for change in changes if change.startswith(COSTLY))
        steps = most * _images(()) / _images(changes) / _cost(root / "probes", costly, common)
        folder.mkdir(parents=True, exist_ok=True)
        told.write_text(json.dumps({"steps": max(1, round(steps))}))
    steps = json.loads(told.read_text())["steps"]
    _train(folder, (*common, f"train.steps={steps}", "held_out.every=1000000", *changes))  # the last alone


def _cost(root: Path, costly: tuple[str, ...], common: tuple[str, ...]) -> float:
    """What a step costs, the baseline's being 1."""
    if not costly:
        return 1.0
    seconds = []
    for name, changes in (("baseline", ()), ("changed", costly)):
        probe = root / _slug(" ".join(costly)) / name
        if not (probe / "model").exists():
            _train(probe, (*changes, *common, f"train.steps={PROBE}", "held_out.every=0"))
        spent = [line["seconds"] for line in _log(probe) if "seconds" in line]
        seconds.append(median(spent[PROBE // 3 :]))
    return seconds[1] / seconds[0]


def _images(changes: tuple[str, ...]) -> int:
    """Of a step."""
    sampling = tomllib.loads(JOB.read_text(encoding="utf-8"))["sampling"]
    given = dict(change.removeprefix("sampling.").split("=") for change in changes if "sampling." in change)
    return int(given.get("nodes", sampling["nodes"])) * int(given.get("subgraphs", sampling["subgraphs"]))


def _train(folder: Path, changes: tuple[str, ...]) -> None:
    given = [
        word
        for change in (f"out={json.dumps(str(folder.resolve()))}", *changes)
        for word in ("--set", change)
    ]
    done = subprocess.run(
        [sys.executable, "-m", "crater_ray.cli", "train", str(JOB), *given], stdout=subprocess.DEVNULL
    )
    if done.returncode:
        sys.exit(f"{folder.name} failed")


def _log(folder: Path) -> list[dict[str, Any]]:
    path = folder / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _slug(label: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in label.lower()).split())


if __name__ == "__main__":
    main()
