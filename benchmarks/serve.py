"""Served search against the same search in process: latency, rate, time to ready.

python benchmarks/serve.py indexes/moon20k [--seconds 20] [--json]

The service's numbers are of its HTTP replies as a client on the same machine sees them, counted by the time
they end. In process: `Index.search` in a process of its own, before the service is started and again after it
has ended, the mean of both: a shared machine is not as fast in one minute as in another.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from load import IMAGE_CANDIDATES, Body, load, png, same_hits, service
from table import Report, arguments, show

QUERIES = 60
TOP, CANDIDATES = 10, IMAGE_CANDIDATES
WANTED = {
    "exact_p50": "<= 1.6",
    "exact_p99": "<= 4",
    "exact_rate": ">= 0.7",
    "shortlist_p50": "<= 14",
    "shortlist_p99": "<= 50",
    "image_p50": "<= 20",
    "ready_s": "<= 20",
    "failed_or_wrong": "0",
}


def in_process(index: Path, seconds: float) -> dict[str, Any]:
    """Timings of `Index.search`, and its hits for each query and mode."""
    from crater_ray import open_index

    opened = open_index(index)
    ids = opened.ids[:: max(1, len(opened) // QUERIES)][:QUERIES]
    told: dict[str, Any] = {"version": opened.snapshot.version.number, "ids": ids, "rows": len(opened)}
    how = {"top": TOP, "candidates": CANDIDATES}
    for mode in ("shortlist", "exact"):
        hits = {id: [(h.id, h.score) for h in opened.search(id=id, mode=mode, **how)] for id in ids}
        told[mode] = _timed(
            lambda n, mode=mode: opened.search(id=ids[n % len(ids)], mode=mode, **how), seconds
        )
        told[f"{mode}_hits"] = hits
    try:
        image = png(opened.image(ids[0]))
    except Exception as error:
        told["image_error"] = str(error)
        return told
    told["encode"] = _timed(lambda _: opened.local.encode(image), seconds / 2)
    told["image_png"] = image.hex()
    return told


def _timed(work: Any, seconds: float) -> dict[str, float]:
    for number in range(5):
        work(number)
    spent: list[float] = []
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        before = time.perf_counter()
        work(len(spent))
        spent.append(time.perf_counter() - before)
    return {
        "p50_ms": round(1e3 * float(np.percentile(spent, 50)), 2),
        "p99_ms": round(1e3 * float(np.percentile(spent, 99)), 2),
        "rate": round(len(spent) / sum(spent), 2),
        "requests": len(spent),
    }


def served(index: Path, alone: dict[str, Any], seconds: float, arguments: list[str]) -> dict[str, Any]:
    """The same through HTTP."""
    told: dict[str, Any] = {}
    with service(index, *arguments) as running:
        told["ready_s"] = round(running.ready_seconds, 1)
        for mode in ("shortlist", "exact"):
            how = {"top": TOP, "mode": mode, "candidates": CANDIDATES}
            bodies: list[Body] = [{"id": id, **how} for id in alone["ids"]]
            expected = {
                (alone["version"], id): [(name, score) for name, score in hits]
                for id, hits in alone[f"{mode}_hits"].items()
            }
            check = same_hits(expected)
            asyncio.run(load(running.url, bodies, 3))
            told[mode] = asyncio.run(load(running.url, bodies, seconds, check=check)).as_dict()
            told[f"{mode}_rates"] = {}
            for at_once in (2, 4, 8):
                tally = asyncio.run(load(running.url, bodies, seconds, at_once=at_once, check=check))
                found = tally.as_dict()
                found["rate"] = round(tally.rate(1.0, seconds), 2)
                told[f"{mode}_rates"][at_once] = found
        if "image_png" in alone:
            images: list[Body] = [bytes.fromhex(alone["image_png"])]
            asyncio.run(load(running.url, images, 2))
            told["image"] = asyncio.run(load(running.url, images, seconds)).as_dict()
    return told


def report(alone: dict[str, Any], told: dict[str, Any]) -> Report:
    """What was asked of the service beside what it does."""
    rows: list[tuple[str, ...]] = []
    keys: dict[str, float] = {}

    def compared(name: str, key: str, one: float, other: float, unit: str, *, added: bool = False) -> None:
        keys[key] = other - one if added else other / one
        shown = f"+ {keys[key]:.1f} {unit}" if added else f"× {keys[key]:.2f}"
        rows.append((name, f"{one:,.1f} {unit}", f"{other:,.1f} {unit}", shown))

    for mode, name, added in (("exact", "exact", False), ("shortlist", "shortlist, S = 100", True)):
        for at in ("p50", "p99"):
            one, other = alone[mode][f"{at}_ms"], told[mode][f"{at}_ms"]
            compared(f"{name}, {at}", f"{mode}_{at}", one, other, "ms", added=added)
        best = max(found["rate"] for found in told[f"{mode}_rates"].values())
        compared(f"{name}, at saturation", f"{mode}_rate", alone[mode]["rate"], best, "/s")
    if "image" in told:
        both = alone["encode"]["p50_ms"] + alone["shortlist"]["p50_ms"]
        asked = told["image"]["p50_ms"]
        compared("by image: encode + shortlist, p50", "image_p50", both, asked, "ms", added=True)
    keys["ready_s"] = told["ready_s"]
    rows.append(("start to ready", "", f"{told['ready_s']} s", ""))
    every = [found for mode in ("exact", "shortlist") for found in told[f"{mode}_rates"].values()]
    wrong = sum(found["wrong"] + found["failed"] for found in [told["exact"], told["shortlist"], *every])
    keys["failed_or_wrong"] = wrong
    return Report(
        title="Served search beside the same search in process",
        columns=("one request at a time, but for saturation", "in process", "served", ""),
        rows=rows,
        keys=keys,
        wanted=WANTED,
        notes=(
            f"{alone['rows']:,} views; saturation: the best of 2, 4 and 8 requests at once",
            f"{sum(found['requests'] for found in every):,} replies at saturation, each compared with the "
            "hits found in process",
        ),
    )


def mean(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What was measured twice, as one."""
    both = dict(before)
    for name in ("shortlist", "exact", "encode"):
        if name in before:
            both[name] = {key: (value + after[name][key]) / 2 for key, value in before[name].items()}
    return both


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--alone", action="store_true", help="measure in process, print JSON")
    parser.add_argument("serve", nargs="*", help="after --: arguments of crater-ray serve")
    given = parser.parse_args()
    if given.alone:
        print(json.dumps(in_process(given.index, given.seconds)))
        return
    command = [sys.executable, __file__, str(given.index), "--seconds", str(given.seconds / 2), "--alone"]

    def alone() -> dict[str, Any]:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return dict(json.loads(done.stdout.splitlines()[-1]))

    before = alone()
    told = served(given.index, before, given.seconds, given.serve)
    show(report(mean(before, alone()), told), given, ray=version("ray"), numpy=np.__version__)


if __name__ == "__main__":
    main()
