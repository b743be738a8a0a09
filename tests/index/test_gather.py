"""Gathering rows out of a file, whatever way the disk is asked."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from crater_ray.index import gather as room
from crater_ray.index.gather import gather, ranges


@pytest.fixture
def codes(tmp_path: Path) -> np.memmap:
    values = np.random.default_rng(0).integers(0, 256, (50, 777), np.uint8)
    (tmp_path / "codes.bin").write_bytes(b"head" + values.tobytes())
    return np.memmap(tmp_path / "codes.bin", np.uint8, "r", 4, (50, 777))


@pytest.mark.parametrize("willneed", [False, True])
@pytest.mark.parametrize("rows", [[3, 1, 49, 0, 3], [], [7], list(range(50))])
def test_it_is_fancy_indexing_into_new_memory(codes: np.memmap, rows: list[int], willneed: bool) -> None:
    taken = gather(codes, rows, willneed=willneed)
    assert np.array_equal(taken, np.asarray(codes)[rows] if rows else np.empty((0, 777)))
    assert taken.dtype == np.uint8
    assert taken.flags.c_contiguous
    assert taken.flags.writeable
    assert type(taken) is np.ndarray


@pytest.mark.parametrize("rows", [[-1, 2], [0, 50]])
def test_a_row_that_is_not_there_is_refused(codes: np.memmap, rows: list[int]) -> None:
    with pytest.raises(ValueError, match="there are 0 to 49"):
        gather(codes, rows, willneed=True)


def test_rows_are_one_list(codes: np.memmap) -> None:
    with pytest.raises(ValueError, match="one list of row numbers"):
        gather(codes, [[1], [2]], willneed=False)


def test_an_array_in_memory_needs_no_disk() -> None:
    assert gather(np.arange(6, dtype=np.uint8).reshape(3, 2), [2, 0], willneed=True).tolist() == [
        [4, 5],
        [0, 1],
    ]


def test_neighbours_are_one_range() -> None:
    assert ranges(np.array([9, 3, 4, 3, 5, 11])) == [(3, 6), (9, 10), (11, 12)]


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system has no posix_fadvise")
class TestReadAhead:
    @pytest.fixture(autouse=True)
    def _watched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[int, int]] = []
        self.waits = 0.0
        monkeypatch.setattr(
            room.os, "posix_fadvise", lambda fd, start, length, advice: self.asked.append((start, length))
        )
        monkeypatch.setattr(room, "_waits", lambda: self.waits)

    def test_rows_in_memory_are_not_asked_for(self, codes: np.memmap) -> None:
        gather(codes, range(50), willneed=True)
        assert self.asked == []

    def test_after_one_wait_all_the_rest_is_asked_for_run_by_run(
        self, codes: np.memmap, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        take = room._take

        def waiting(codes: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
            self.waits += 20 in rows
            take(codes, rows, out)

        monkeypatch.setattr(room, "_take", waiting)
        rows = [*range(8), 20, *range(30, 45), 8, 2, 3]
        assert np.array_equal(gather(codes, rows, willneed=True), np.asarray(codes)[rows])
        assert self.asked == [(4 + 2 * 777, 2 * 777), (4 + 8 * 777, 777)]

    def test_where_waits_are_not_counted_all_is_asked_for_first(self, codes: np.memmap) -> None:
        self.waits = float("nan")
        rows = [8, 2, 3]
        assert np.array_equal(gather(codes, rows, willneed=True), np.asarray(codes)[rows])
        assert self.asked == [(4 + 2 * 777, 2 * 777), (4 + 8 * 777, 777)]

    def test_without_willneed_nothing_is_asked_for(self, codes: np.memmap) -> None:
        self.waits = float("nan")
        gather(codes, [8, 2, 3], willneed=False)
        assert self.asked == []
