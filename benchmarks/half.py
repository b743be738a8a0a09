"""Search, and the whole service, where processes and pages of files together may have half an index's bytes.

    python benchmarks/half.py INDEX … [--cgroup FOLDER] [--queries 500]

Each INDEX is one that benchmarks/synthetic.py wrote, with its queries. A searcher is asked all of them
without a limit, then inside a memory cgroup; then the service, one replica of each, is started inside such a
one and asked for items by id. Says why not where no cgroup can be had; --cgroup names a folder made for this.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from limits import limited, why_not
from load import Body, load, service
from scale_case import Case, alone, words
from table import Report, arguments, show

from crater_ray.index.store import store_at

PATIENCE = 180.0  # seconds that the limited service may take to start
SERVED = 200  # items that the limited service is asked for


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("indexes", type=Path, nargs="+")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--cgroup", type=Path, help="a memory cgroup's folder that was made for this")
    options = parser.parse_args()
    reason = why_not(options.cgroup)
    if reason:
        sys.exit(f"not run: {reason}")
    show(measured(options), options, ray=version("ray"))


@dataclass(frozen=True)
class Half:
    """What one index did within half of its bytes."""

    views: int
    codec: str
    limit: int  # bytes
    free: str  # p50 / p99 of a searcher without a limit, in milliseconds
    tight: str  # … within it
    same: bool  # answers
    ready: float | None  # seconds until the service was there
    answered: int
    served: str  # p50 / p99 over HTTP, in milliseconds

    def told(self, name: str) -> str:
        there = f"not there after {PATIENCE:.0f} s"
        if self.ready is not None:
            there = f"{self.answered} searches by id, p50 / p99 {self.served} ms"
        return (
            f"{name} in a cgroup of half its bytes ({self.limit / 1e6:,.0f} MB): a searcher's p50 / p99 "
            f"{self.tight} ms, {'the same' if self.same else 'OTHER'} answers; "
            f"the whole service with one replica of each: {there}"
        )


def in_half(case: Case, free: dict[str, Any], options: Any) -> Half:
    """`free` is what scale_case.py told of the searcher without a limit."""
    half = int(free["bytes"]["total"] * free["views"] / 2)
    with limited(half, options.cgroup) as prefix:
        tight = alone("scale_case.py", *words(case, options), prefix=prefix)
    with limited(half, options.cgroup) as prefix:
        ready, answered, served = asyncio.run(asked(case.root, prefix))
    times = (f"{one['p50_ms']:.1f} / {one['p99_ms']:.1f}" for one in (free, tight))
    same = tight["ids"] == free["ids"]
    return Half(free["views"], free["codec"], half, *times, same, ready, answered, served)


def measured(options: argparse.Namespace) -> Report:
    table, keys, wanted = [], {}, {}
    for root in options.indexes:
        case = Case(root.name, root, root / "queries")
        one = in_half(case, alone("scale_case.py", *words(case, options)), options)
        table.append(
            [
                f"{one.views:,} views, {one.codec}",
                f"{2 * one.limit / 1e6:,.0f}",
                f"{one.limit / 1e6:,.0f}",
                one.free,
                one.tight,
                "the same" if one.same else "OTHER",
                f"not there after {PATIENCE:.0f}" if one.ready is None else f"{one.ready:.0f}",
                one.answered,
                one.served,
            ]
        )
        keys[f"searches answered, {root.name}"] = one.answered
        wanted[f"searches answered, {root.name}"] = "> 0, the whole service"
    columns = ["index", "its MB", "limit, MB", "searcher p50 / p99 ms", "… in it", "answers"]
    columns += ["the service in it: ready after s", "answered by id", "p50 / p99 ms"]
    return Report("In half of an index", columns, table, keys, wanted)


async def asked(root: Path, prefix: Sequence[str]) -> tuple[float | None, int, str]:
    """Seconds until it was ready (None: it was not), searches answered, their p50 / p99."""
    from crater_ray.index.snapshot import Snapshot

    snapshot = Snapshot(store_at(root))
    every = max(1, len(snapshot) // SERVED)
    bodies: list[Body] = [{"id": snapshot.ids[row].as_py()} for row in range(0, len(snapshot), every)]
    one_of_each = ("--replicas", "1", "--encoders", "1")
    try:
        with service(root, *one_of_each, prefix=prefix, patience=PATIENCE) as running:
            tally: dict[str, Any] = (await load(running.url, bodies, 20)).as_dict()
    except SystemExit:
        return None, 0, ""
    good = tally["requests"] - tally["failed"]
    return running.ready_seconds, good, f"{tally['p50_ms']:.0f} / {tally['p99_ms']:.0f}"


if __name__ == "__main__":
    main()
