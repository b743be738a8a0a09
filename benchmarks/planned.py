"""What `crater-ray plan` says before, beside what is there after: bytes by file, memory.

    python benchmarks/planned.py [--views 1e4 1e5 1e6] [--keep indexes] [--json]

Of the indexes that benchmarks/scale.py has written. The plan is made from the real index alone, whose
listing it scales; memory is measured in replicas of a service (`crater-ray serve`) that has answered.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
from load import load, service
from scale_case import memory
from table import Report, arguments, show

from crater_ray import plan
from crater_ray.index.fitted import fitted_path
from crater_ray.index.opened import Snapshot
from crater_ray.index.segments import SEGMENT
from crater_ray.index.versions import version_path

LEAST = 100_000  # bytes: what is smaller is not looked at one by one


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--views", nargs="+", type=lambda t: int(float(t)), default=[10**4, 10**5, 10**6])
    parser.add_argument("--keep", type=Path, default=Path("indexes"))
    options = parser.parse_args()
    roots = [options.keep / f"scale-{views}" for views in options.views]
    rows: list[list[object]] = []
    keys: dict[str, float] = {}
    notes: list[str] = []
    listing = plan.like_index(roots[0])
    for root in roots:
        snapshot = Snapshot(root)
        foretold = plan.estimate(
            plan.Shape.of(snapshot.recipe),
            plan.Listing(listing.views, listing.parts, listing.item_bytes, listing.part_bytes),
            views=len(snapshot),
            factory="auto",
            whiten=False,
        )
        told = json.loads((options.keep / "scale-truth" / f"{root.name}.json").read_text())
        pairs = {name: (foretold.files.get(name, 0), size) for name, size in on_disk(snapshot).items()}
        pairs["all files"] = foretold.bytes, sum(size for _, size in pairs.values())
        searcher, whole = served(root, snapshot)
        pairs["memory: a searcher"] = foretold.searcher_memory, searcher
        half = sum(on_disk(snapshot).values()) / 2
        notes.append(
            f"{len(snapshot):,} views: all processes of the service have {whole / 1e6:,.0f} MB of anonymous "
            f"memory together, half of the index is {half / 1e6:,.0f} MB"
        )
        pairs["memory: a builder of stage one"] = foretold.builder_memory, told["build_anonymous"]
        for name, (before, after) in pairs.items():
            if after < LEAST:
                continue
            ratio = before / after
            rows.append([f"{len(snapshot):,}", name, f"{before / 1e6:,.1f}", f"{after / 1e6:,.1f}", ratio])
            keys[f"{name}, {len(snapshot):,}"] = ratio
    worst = max(keys.values(), key=lambda ratio: abs(ratio - 1))
    columns = ["views", "what", "planned MB", "measured MB", "planned / measured"]
    report = Report(
        "Plan", columns, rows, {"furthest from 1": worst}, {"furthest from 1": "0.9 to 1.1"}, notes
    )
    show(report, options, numpy=np.__version__)


def on_disk(snapshot: Snapshot) -> dict[str, int]:
    """kind of file -> bytes, of what the version in force refers to."""
    found: dict[str, int] = {"shortlist.faiss": 0, "fitted": 0, "versions and segments": 0}
    for part in snapshot.parts:
        for path in part.folder.iterdir():
            found[path.name] = found.get(path.name, 0) + path.stat().st_size
    for segment in snapshot.segments:
        folder = snapshot.root / "segments" / segment.sha
        found["versions and segments"] += (folder / SEGMENT).stat().st_size
        found["shortlist.faiss"] += segment.sum.bytes if segment.sum else 0
    found["versions and segments"] += version_path(snapshot.root, snapshot.version.number).stat().st_size
    for sha in {sha for segment in snapshot.segments for sha in segment.learnt}:
        found["fitted"] += fitted_path(snapshot.root, sha).stat().st_size
    return found


def served(root: Path, snapshot: Snapshot) -> tuple[int, int]:
    """Anonymous bytes of a searcher's replica, and of the whole service, after some seconds of answers."""
    every = max(1, len(snapshot) // 200)
    bodies: list[Any] = [{"id": snapshot.ids[row].as_py()} for row in range(0, len(snapshot), every)]
    with service(root) as running:
        asyncio.run(load(running.url, bodies, 10, at_once=2))
        searchers = [memory(pid)["anonymous"] for pid in running.processes("searcher")]
        every = [memory(pid)["anonymous"] for pid in running.processes()]
    return max(searchers), sum(every)


if __name__ == "__main__":
    main()
