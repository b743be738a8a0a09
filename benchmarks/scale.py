"""What search costs as an index grows tenfold each step: time, memory, bytes, and what it still finds.

    python benchmarks/scale.py [--views 1e4 1e5 1e6] [--real indexes/moon20k-default] [--keep indexes]

Indexes of that many views are drawn from the real one (benchmarks/synthetic.py) into KEEP/scale-N and kept,
as is what the exact scan finds in them (KEEP/scale-truth): a run after the first measures search alone. Each
index is measured in a process of its own, which asks every query once unmeasured and then twice, one at a
time, once its image is encoded. recall@10 is the share of the exact
scan's ten among those of the default mode. A drawn index has means of tokens as its vectors; the real one
is measured with those and, as a job has it by default, with whitened class tokens. Memory is that process's
(smaps_rollup): anonymous is its own, the rest are pages of files, which the system takes back when it needs
them. The first run takes 25 minutes of two free cores for 10^6 views, and 6 GB of disk.

    python benchmarks/scale.py --filters 60000

prints what filters cost and keep (benchmarks/scale_filters.py), in a minute, of an index that it makes up.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from half import in_half
from limits import why_not
from scale_case import Case, alone, memory, recall, truth, words
from table import Report, arguments, show

from crater_ray.index.store import store_at

WANTED = {"time": "<= 3", "recall": ">= 0.98", "anonymous": "<= 500 MB + the FAISS bytes"}


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    number = {"type": lambda text: int(float(text))}
    parser.add_argument("--views", nargs="+", default=[10**4, 10**5, 10**6], **number)
    parser.add_argument("--real", type=Path, default=Path("indexes/moon20k-default"))
    parser.add_argument("--keep", type=Path, default=Path("indexes"))
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--candidates", type=int, help="instead of the default")
    parser.add_argument("--rounds", type=int, default=3, help="processes an index is measured in, in turns")
    parser.add_argument("--cgroup", type=Path, help="a memory cgroup's folder that was made for this")
    parser.add_argument("--write", help="write one drawn index, and no more", **number)
    parser.add_argument(
        "--filters", help="what filters cost and keep in an index of so many, and no more", **number
    )
    parser.add_argument("--shortlist", help="build the shortlist of a written one, and no more", **number)
    options = parser.parse_args()
    if options.write is not None:
        print(json.dumps(written(options.write, options)))
    elif options.shortlist:
        print(json.dumps(built(options.shortlist, options)))
    else:
        import scale_filters

        versions = {name: version(name) for name in ("torch", "faiss-cpu")}
        filters = options.filters
        report = scale_filters.measured(filters, options.threads) if filters else measured(options)
        show(report, options, **versions)


def measured(options: Any) -> Report:
    from crater_ray.index.snapshot import Snapshot

    real, views = options.keep / "scale-real", len(Snapshot(store_at(options.real)))
    if not (real / "index.json").exists():
        alone("scale.py", "--write", "0", *same(options))
    cases: list[tuple[Case, dict[str, Any]]] = [
        (Case(f"{views:,} real, {what}, {sun}", root, root / "queries", at), {})
        for what, root in (("cls", options.real), ("mean of tokens", real))
        for sun, at in (("near suns", 1), ("any sun", 2))
    ]
    cases += [made(views, options) for views in options.views]
    exact = [truth(case, options.queries, options.keep / "scale-truth")[0] for case, _ in cases]
    found: list[list[dict[str, Any]]] = [[] for _ in cases]
    for _ in range(options.rounds):  # in turns, since the machine may be shared
        for at, (case, _) in enumerate(cases):
            found[at].append(alone("scale_case.py", *words(case, options)))
    table, keys, wanted, notes = [], {}, {}, []
    for (case, told), rows, runs in zip(cases, exact, found, strict=True):
        one = runs[0]
        share = recall(one["ids"], Snapshot(store_at(case.root)).ids, rows)
        p50, p99 = (median(run[name] for run in runs) for name in ("p50_ms", "p99_ms"))
        table.append(
            [
                case.name,
                one["factory"],
                f"{told['build_s']:.0f}" if told else "",
                f"{one['bytes']['total']:,.0f}",
                f"{p50:.2f}",
                f"{p99:.2f}",
                f"{median(run['exact_ms'] for run in runs) / p50:,.0f}" if "exact_ms" in one else "",
                f"{share:.4f}",
                f"{one['anonymous'] / 1e6:,.0f}",
                f"{one['file'] / 1e6:,.0f}",
            ]
        )
        keys[f"recall@10, {case.name}"] = share
        notes += [f"{case.name}: {line}" for line in one["told"] if ":" in line]
        if told:
            wanted[f"recall@10, {case.name}"] = WANTED["recall"]
    drawn = [
        (case, [run["p50_ms"] for run in runs], runs[0])
        for (case, told), runs in zip(cases, found, strict=True)
        if told
    ]
    for (few, before, _), (many, after, _) in pairwise(drawn):
        name = f"time of {many.name} over {few.name}"
        keys[name] = median(b / a for a, b in zip(before, after, strict=True))
        wanted[name] = WANTED["time"]
    last, _, one = drawn[-1]
    reason = why_not(options.cgroup)
    keys[f"anonymous MB of {last.name}"] = one["anonymous"] / 1e6
    wanted[f"anonymous MB of {last.name}"] = WANTED["anonymous"] + f", {one['faiss_bytes'] / 1e6:,.0f} MB"
    notes += [
        f"{options.queries} queries each, one at a time, {options.threads} thread(s); times are medians of "
        f"{options.rounds} processes in turns; a process that has imported all it needs has "
        f"{one['anonymous_before'] / 1e6:,.0f} MB of anonymous memory before it opens an index",
        f"not run in half of the index's bytes: {reason}"
        if reason
        else in_half(last, one, options).told(last.name),
    ]
    columns = [
        "views",
        "shortlist",
        "built in s",
        "bytes a view",
        "p50 ms",
        "p99 ms",
        "exact / p50",
        "recall@10",
        "anonymous MB",
        "files MB",
    ]
    return Report("Scale", columns, table, keys, wanted, notes)


def made(views: int, options: Any) -> tuple[Case, dict[str, Any]]:
    """The drawn index of that many views, and what it took to make; kept."""
    root = options.keep / f"scale-{views}"
    record = options.keep / "scale-truth" / f"{root.name}.json"
    case = Case(f"{views:,} drawn", root, root / "queries")
    if record.exists() and (root / "index.json").exists():
        return case, json.loads(record.read_text())
    told = alone("scale.py", "--write", str(views), *same(options))
    told |= alone("scale.py", "--shortlist", str(views), *same(options))
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(told))
    return case, told


def same(options: Any) -> list[str]:
    """For a process of our own."""
    return ["--real", str(options.real), "--keep", str(options.keep), "--queries", str(options.queries)]


def written(views: int, options: Any) -> dict[str, Any]:
    """The real views themselves where `views` is 0."""
    import torch
    from synthetic import Process, Real, build_shortlist, copy, write

    torch.set_num_threads(1)
    began = time.monotonic()
    real = Real(options.real)
    if not views:
        copy(real, options.keep / "scale-real")
        build_shortlist(options.keep / "scale-real")
        return {}
    write(real, options.keep / f"scale-{views}", views, seed=0, queries=options.queries, process=Process())
    return {"write_s": time.monotonic() - began, "write_anonymous": memory()["anonymous"]}


def built(views: int, options: Any) -> dict[str, Any]:
    """The shortlist, on one thread, and the most anonymous memory that it had."""
    import threading

    from synthetic import build_shortlist

    from crater_ray.search.filtered import faiss

    faiss.omp_set_num_threads(1)
    most, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            most[0] = max(most[0], memory()["anonymous"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    build_shortlist(options.keep / f"scale-{views}")
    spent = time.monotonic() - began
    done.set()
    watcher.join()
    return {"build_s": spent, "build_anonymous": most[0]}


if __name__ == "__main__":
    sys.exit(main())
