"""Exact search beside other work: queries a second, by how threads that wait for each other wait.

    python benchmarks/busy.py [--beside 10] [--views 1226] [--seconds 4] [--rounds 3]

Each row is a process of its own, in turns. The load is processes that count, one thread each. Fair is the
quiet speed times the share of the cores that so many threads get among all that want to run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from statistics import median

from table import Report, arguments, show

from crater_ray.waiting import SPIN

WAYS = {  # way: what its process is told
    "libgomp's own": {},
    "crater-ray": {"GOMP_SPINCOUNT": SPIN},
    "asleep at once": {"OMP_WAIT_POLICY": "PASSIVE"},
}
K, DIM, TOGETHER = 32, 384, 8
LOAD = "while True: pass"


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--beside", type=int, default=10, help="other processes that want a core")
    parser.add_argument("--views", type=int, default=1226)
    parser.add_argument("--seconds", type=float, default=4.0, help="a measurement lasts")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", action="store_true", help="what the rows' processes do")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measured(options.views, options.threads, options.seconds)))
        return
    given = [sys.executable, __file__, "--measure", "--views", str(options.views)]
    given += ["--threads", str(options.threads), "--seconds", str(options.seconds)]
    quiet = rounds(given, options.rounds)
    load = [subprocess.Popen([sys.executable, "-c", LOAD]) for _ in range(options.beside)]
    try:
        busy = rounds(given, options.rounds)
    finally:
        for process in load:
            process.kill()
            process.wait()
    cores = os.cpu_count() or 1
    share = min(1.0, cores / (options.threads + options.beside))
    rows, keys = [], {}
    for way in WAYS:
        fair = max(quiet[each] for each in WAYS) * share
        rows.append([way, f"{quiet[way]:.1f}", f"{busy[way]:.1f}", f"{fair / busy[way]:.1f}"])
        keys[f"{way}, fair share over measured"] = fair / busy[way]
    show(
        Report(
            title=f"Exact search of {options.views:,} views beside {options.beside} busy processes",
            columns=("threads that wait", "quiet", "busy", "slower than a fair share"),
            rows=rows,
            keys=keys,
            wanted={"crater-ray, fair share over measured": "<= 3"},
            notes=(
                f"Queries a second: {options.threads} threads, int8, {K} tokens of {DIM}, "
                f"{TOGETHER} asked at once; medians of {options.rounds} rounds of {options.seconds:g} s.",
            ),
        ),
        options,
    )


def rounds(given: list[str], count: int) -> dict[str, float]:
    """Queries a second of each way, the median over rounds in turns."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    plain = {
        name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    for _ in range(count):
        for way, told in WAYS.items():
            done = subprocess.run(given, env=plain | told, stdout=subprocess.PIPE, check=True, text=True)
            found[way].append(json.loads(done.stdout))
    return {way: median(values) for way, values in found.items()}


def measured(views: int, threads: int, seconds: float) -> float:
    """Queries a second of this process."""
    import numpy as np
    import torch

    from crater_ray.search.codecs import codec
    from crater_ray.search.kernel import score

    torch.set_num_threads(threads)
    tokens = np.random.default_rng(0).standard_normal((views, K, DIM)).astype(np.float32)
    tokens /= np.linalg.norm(tokens, axis=2, keepdims=True)
    codes, scales = codec("int8").encode(tokens)
    queries = torch.from_numpy(tokens[:TOGETHER])
    score(queries, codes, scales, codec="int8", k=K, dim=DIM)
    start, asked = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        score(queries, codes, scales, codec="int8", k=K, dim=DIM)
        asked += TOGETHER
    return asked / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
