"""Gathering rows out of a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crater_ray.index.gather import gather, ranges


@pytest.fixture
def codes(tmp_path: Path) -> np.memmap:
    values = np.random.default_rng(0).integers(0, 256, (50, 777), np.uint8)
    (tmp_path / "codes.bin").write_bytes(b"head" + values.tobytes())
    return np.memmap(tmp_path / "codes.bin", np.uint8, "r", 4, (50, 777))


@pytest.mark.parametrize("rows", [[3, 1, 49, 0, 3], [], [7], list(range(50))])
def test_it_is_fancy_indexing_into_new_memory(codes: np.memmap, rows: list[int]) -> None:
    taken = gather(codes, rows)
    assert np.array_equal(taken, np.asarray(codes)[rows] if rows else np.empty((0, 777)))
    assert taken.dtype == np.uint8
    assert taken.flags.c_contiguous
    assert taken.flags.writeable
    assert type(taken) is np.ndarray


@pytest.mark.parametrize("rows", [[-1, 2], [0, 50]])
def test_a_row_that_is_not_there_is_refused(codes: np.memmap, rows: list[int]) -> None:
    with pytest.raises(ValueError, match="there are 0 to 49"):
        gather(codes, rows)


def test_rows_are_one_list(codes: np.memmap) -> None:
    with pytest.raises(ValueError, match="one list of row numbers"):
        gather(codes, [[1], [2]])


def test_an_array_in_memory_needs_no_disk() -> None:
    assert gather(np.arange(6, dtype=np.uint8).reshape(3, 2), [2, 0]).tolist() == [
        [4, 5],
        [0, 1],
    ]


def test_neighbours_are_one_range() -> None:
    assert ranges(np.array([9, 3, 4, 3, 5, 11])) == [(3, 6), (9, 10), (11, 12)]
