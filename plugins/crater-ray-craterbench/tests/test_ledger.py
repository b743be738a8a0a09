"""Results survive a death at any byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crater_ray_craterbench.ledger import Ledger


def test_a_ledger_cut_at_any_byte_keeps_its_whole_lines_and_takes_new_ones(tmp_path: Path) -> None:
    first = Ledger(tmp_path)
    for number in range(3):
        first.add(f"k{number}", {"image_map": number / 7, "options": "é"}, np.array([number, np.nan]))
    whole = first.path.read_bytes()
    for cut in range(len(whole) + 1):
        first.path.write_bytes(whole[:cut])
        again = Ledger(tmp_path)
        assert len(again.results) == whole[:cut].count(b"\n")
        assert again.path.read_bytes() == whole[: whole[:cut].rfind(b"\n") + 1]
    again.path.write_bytes(whole[:-5])
    again = Ledger(tmp_path)
    again.add("k2", {"image_map": 2 / 7}, np.array([2.0]))
    assert Ledger(tmp_path).results["k2"]["image_map"] == pytest.approx(2 / 7)
    np.testing.assert_array_equal(Ledger(tmp_path).aps("k1"), [1.0, np.nan])


def test_a_line_that_is_no_result_or_lost_its_scores_is_measured_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.add("kept", {}, np.zeros(2))
    ledger.add("lost", {}, np.zeros(2))
    (ledger.folder / "ap" / "lost.npy").unlink()
    with ledger.path.open("a") as lines:
        lines.write('not json\n[1]\n{"no": "key"}\n')
    assert set(Ledger(tmp_path).results) == {"kept"}
