"""Rows out of a memory-mapped file, with the disk asked for all of them at once."""

from __future__ import annotations

import math
import os
import resource
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

FIRST = 8  # rows taken before the first look at whether the disk had to be waited for


def gather(codes: NDArray[np.uint8], rows: ArrayLike, *, willneed: bool) -> NDArray[np.uint8]:
    """Those rows of codes (N, R), in that order: (len(rows), R) uint8, contiguous, a copy.

    With `willneed`, and codes a whole np.memmap, all remaining rows are read ahead at once as soon as one
    had to come from the disk: page faults alone would wait for one after another, and asking ahead for rows
    that are in memory already costs as much as copying them. Raises ValueError for a row that is not there.
    """
    wanted = np.asarray(rows, dtype=np.int64)
    if wanted.ndim != 1:
        raise ValueError(f"rows are {wanted.shape}; one list of row numbers is asked for")
    out = np.empty((len(wanted), codes.shape[1]), codes.dtype)
    if not len(wanted):
        return out
    if wanted.min() < 0 or wanted.max() >= len(codes):
        raise ValueError(
            f"rows {wanted.min()} to {wanted.max()} are asked for; there are 0 to {len(codes) - 1}"
        )
    taken = 0
    if willneed and isinstance(codes, np.memmap) and hasattr(os, "posix_fadvise"):
        taken = _until_the_disk(codes, wanted, out)
        _read_ahead(codes, wanted[taken:])
    _take(codes, wanted[taken:], out[taken:])
    return out


def _until_the_disk(
    codes: np.memmap[tuple[int, int], np.dtype[np.uint8]], rows: NDArray[np.int64], out: NDArray[np.uint8]
) -> int:
    """Takes rows, twice as many each time, until one had to be read from the disk; gives how many it took.

    A share p of missing rows is noticed after about 2 / p rows: a few page faults, however many rows there
    are.
    """
    before, taken, some = _waits(), 0, FIRST
    while taken < len(rows) and _waits() == before:
        _take(codes, rows[taken : taken + some], out[taken : taken + some])
        taken, some = taken + some, 2 * some
    return min(taken, len(rows))


def _waits() -> float:
    """This thread's page faults that waited for a disk; NaN, equal to nothing, where none are counted."""
    if not hasattr(resource, "RUSAGE_THREAD"):
        return math.nan
    return resource.getrusage(resource.RUSAGE_THREAD).ru_majflt


def _take(codes: NDArray[np.uint8], rows: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
    # mode="clip" writes straight into out, where the default copies once more; the rows are checked before
    np.take(codes.view(np.ndarray), rows, axis=0, out=out, mode="clip")


def ranges(rows: NDArray[np.int64]) -> list[tuple[int, int]]:
    """(first, last + 1) of each run of neighbouring rows, ascending; a row listed twice counts once."""
    ascending = np.unique(rows)
    cuts = [0, *(np.flatnonzero(np.diff(ascending) > 1) + 1).tolist(), len(ascending)]
    return [(int(ascending[a]), int(ascending[b - 1]) + 1) for a, b in pairwise(cuts)]


def _read_ahead(codes: np.memmap[tuple[int, int], np.dtype[np.uint8]], rows: NDArray[np.int64]) -> None:
    if codes.filename is None or not len(rows):
        return
    size = codes.shape[1] * codes.itemsize
    descriptor = os.open(codes.filename, os.O_RDONLY)
    try:
        for first, last in ranges(rows):
            os.posix_fadvise(
                descriptor, codes.offset + first * size, (last - first) * size, os.POSIX_FADV_WILLNEED
            )
    finally:
        os.close(descriptor)
