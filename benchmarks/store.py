"""Gather and score 1,000 int8 candidates out of a file of 20,000 images, warm and cold.

    python benchmarks/store.py [--threads 1] [--json] [--folder DIR]

Warm: gathering and scoring over scoring alone. Cold: reading ahead (WILLNEED) against page faults, the file
dropped from the page cache before each, and mincore asked whether it was.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import mmap
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from table import Report, arguments, interleaved, ratio, show

IMAGES, C, Q, K, DIM = 20_000, 1000, 64, 64, 384
RECORD = K * DIM


def written(path: Path) -> np.memmap:
    """codes.bin of IMAGES records of random int8, on the disk, mapped."""
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        for _ in range(0, IMAGES, 500):
            file.write(random.integers(0, 256, 500 * RECORD, np.uint8).tobytes())
        file.flush()
        os.fsync(file.fileno())
    return np.memmap(path, np.uint8, "r", shape=(IMAGES, RECORD))


def dropped(path: Path) -> float:
    """Drops the file from the page cache; gives the share of it that is still there."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return resident(descriptor, path.stat().st_size)
    finally:
        os.close(descriptor)


def resident(descriptor: int, size: int) -> float:
    """The share of the file's pages in memory, as mincore tells it; the map is new, so nothing is touched."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mincore.argtypes = libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    pages = -(-size // mmap.PAGESIZE)
    answer = ctypes.create_string_buffer(pages)
    address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    if libc.mincore(address, size, answer) != 0:
        sys.exit(f"mincore: {os.strerror(ctypes.get_errno())}")
    libc.munmap(address, size)
    return float((np.frombuffer(answer.raw, np.uint8) & 1).mean())


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, help="where the 0.5 GB file is written (default: the system's)"
    )
    parser.add_argument(
        "--rounds", type=int, default=15, help="warm rounds (default 15); a third as many cold"
    )
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        report = measured(Path(folder) / "codes.bin", options.rounds, options.threads)

    show(report, options, torch=importlib.metadata.version("torch"), numpy=np.__version__)


def measured(path: Path, rounds: int, threads: int) -> Report:
    from crater_ray.index.gather import gather
    from crater_ray.search.stages import rerank

    codes = {"open": written(path)}
    scales = np.full((IMAGES, 1), 0.002, np.float32)
    query = np.random.default_rng(1).standard_normal((1, Q, DIM), np.float32)
    random = np.random.default_rng(2)
    rows = random.permutation(IMAGES)[:C]
    kept = gather(codes["open"], rows)

    def reranked(rows: np.ndarray, gathered: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        return rerank(query, rows[None], lambda r: (gathered(r), scales[r]), codec="int8", k=K, dim=DIM)

    warm = interleaved(
        {
            "score alone": lambda: reranked(np.arange(C), lambda r: kept[r[0] : r[-1] + 1]),
            "gather": lambda: gather(codes["open"], rows),
            "gather + score": lambda: reranked(rows, lambda r: gather(codes["open"], r)),
        },
        rounds,
    )
    left: list[float] = []

    def drop() -> None:
        del codes["open"]  # mapped pages are not dropped
        left.append(dropped(path))
        codes["open"] = np.memmap(path, np.uint8, "r", shape=(IMAGES, RECORD))

    cold = interleaved(
        {
            "page faults": lambda: reranked(rows, lambda r: gather(codes["open"], r)),
        },
        max(3, rounds // 3),
        before={"page faults": drop},
    )
    alone = warm["score alone"]
    table = [["warm: " + name, 1e3 * median(spent), ratio(spent, alone)] for name, spent in warm.items()]
    table += [
        ["cold, gather + score: " + name, 1e3 * median(spent), ratio(spent, cold["page faults"])]
        for name, spent in cold.items()
    ]
    return Report(
        title=f"{C} of {IMAGES} images, int8, Q = K = {Q}, d = {DIM}, {threads} thread(s)",
        columns=("what", "ms", "over score alone (warm), over WILLNEED (cold)"),
        rows=table,
        keys={
            "gather_vs_score": ratio(warm["gather + score"], alone),
            "cold_vs_faults": ratio(cold["page faults"], cold["WILLNEED"]),
        },
        wanted={"gather_vs_score": "<= 1.5", "cold_vs_faults": ">= 3"},
        notes=(f"Before a cold gather at most {100 * max(left):.2f} % of the file was in memory (mincore).",),
    )


if __name__ == "__main__":
    main()
