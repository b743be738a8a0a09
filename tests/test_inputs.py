"""docs/inputs.md is true: every form of input is made, tried, and comes to what its row says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from crater_ray.errors import CraterRayError

sys.path.append(str(Path(__file__).parents[1] / "docs"))

from inputs import TABLES
from inputs.row import Row

ROWS = [row for rows in TABLES.values() for row in rows]


@pytest.mark.parametrize("row", ROWS, ids=[row.form for row in ROWS])
def test_a_row_says_what_happens(row: Row, tmp_path: Path) -> None:
    if row.is_read:
        row.attempt(tmp_path)
        return
    with pytest.raises(CraterRayError) as caught:
        row.attempt(tmp_path)
    assert row.answer in caught.value.message
    assert "\n" not in caught.value.message
