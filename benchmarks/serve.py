"""Served search against the same search in process: latency, rate, time to ready.

python benchmarks/serve.py indexes/moon20k [--seconds 20] [--out serve.json]

The service's numbers are of its HTTP replies as a client on the same machine sees them, counted by the time
they end. In process: `Index.search` in a process of its own, before the service is started.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from load import Body, load, png, same_hits, service

QUERIES = 60
TOP = 10


def in_process(index: Path, seconds: float) -> dict[str, Any]:
    """Timings of `Index.search`, and its hits for each query and mode."""
    from crater_ray import open_index

    opened = open_index(index)
    ids = opened.ids[:: max(1, len(opened) // QUERIES)][:QUERIES]
    told: dict[str, Any] = {"version": opened.snapshot.version.number, "ids": ids, "rows": len(opened)}
    for mode in ("shortlist", "exact"):
        hits = {id: [(h.id, h.score) for h in opened.search(id=id, top=TOP, mode=mode)] for id in ids}
        told[mode] = _timed(
            lambda n, mode=mode: opened.search(id=ids[n % len(ids)], top=TOP, mode=mode), seconds
        )
        told[f"{mode}_hits"] = hits
    try:
        image = png(opened.image(ids[0]))
    except Exception as error:
        told["image_error"] = str(error)
        return told
    told["encode"] = _timed(lambda _: opened.encode(image), seconds / 2)
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
            bodies: list[Body] = [{"id": id, "top": TOP, "mode": mode} for id in alone["ids"]]
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


def table(alone: dict[str, Any], told: dict[str, Any]) -> str:
    """What was asked of the service beside what it does."""
    exact, short = told["exact"], told["shortlist"]
    best = {
        mode: max(found["rate"] for found in told[f"{mode}_rates"].values())
        for mode in ("exact", "shortlist")
    }
    lines = [
        "| | in process | served | |",
        "|---|---|---|---|",
        _line("exact, p50", alone["exact"]["p50_ms"], exact["p50_ms"], "ms", "x"),
        _line("exact, p99", alone["exact"]["p99_ms"], exact["p99_ms"], "ms", "x"),
        _line("exact, at saturation", alone["exact"]["rate"], best["exact"], "/s", "x"),
        _line("shortlist S = 100, p50", alone["shortlist"]["p50_ms"], short["p50_ms"], "ms", "+"),
        _line("shortlist S = 100, p99", alone["shortlist"]["p99_ms"], short["p99_ms"], "ms", "+"),
        _line("shortlist, at saturation", alone["shortlist"]["rate"], best["shortlist"], "/s", "x"),
    ]
    if "image" in told:
        both = round(alone["encode"]["p50_ms"] + alone["shortlist"]["p50_ms"], 2)
        lines.append(_line("by image, encode + shortlist, p50", both, told["image"]["p50_ms"], "ms", "+"))
    lines.append(f"| start to ready | | {told['ready_s']} s | |")
    return "\n".join(lines)


def _line(name: str, alone: float, over: float, unit: str, how: str) -> str:
    compared = f"× {over / alone:.2f}" if how == "x" else f"+ {over - alone:.1f} {unit}"
    return f"| {name} | {alone} {unit} | {over} {unit} | {compared} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("index", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--out", type=Path, help="write all numbers as JSON")
    parser.add_argument("--alone", action="store_true", help="measure in process, print JSON")
    parser.add_argument("serve", nargs="*", help="after --: arguments of crater-ray serve")
    given = parser.parse_args()
    if given.alone:
        print(json.dumps(in_process(given.index, given.seconds)))
        return
    command = [sys.executable, __file__, str(given.index), "--seconds", str(given.seconds), "--alone"]
    alone = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    )
    told = served(given.index, alone, given.seconds, given.serve)
    print(f"{alone['rows']} views, {platform.machine()}, {time.strftime('%Y-%m-%d %H:%M')}\n")
    print(table(alone, told))
    for mode in ("shortlist", "exact"):
        for at_once, found in told[f"{mode}_rates"].items():
            print(f"{mode}, {at_once} at once: {found}")
    if given.out:
        kept = {k: v for k, v in alone.items() if not k.endswith(("_hits", "_png"))}
        given.out.write_text(json.dumps({"in_process": kept, "served": told}, indent=1))


if __name__ == "__main__":
    main()
