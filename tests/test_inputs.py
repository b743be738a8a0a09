"""docs/reference/inputs.md is true: every form of input is made, tried, and comes to what its row says."""

from __future__ import annotations

import re
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from crater_ray.errors import CraterRayError

sys.path.append(str(Path(__file__).parents[1] / "docs"))

from inputs import TABLES
from inputs.row import Row

ROWS = [row for rows in TABLES.values() for row in rows]


@pytest.mark.parametrize("row", ROWS, ids=[row.form for row in ROWS])
def test_a_row_says_what_happens(row: Row, tmp_path: Path) -> None:
    warned: Any = pytest.warns(UserWarning, match=re.escape(row.warning)) if row.warning else nullcontext()
    if row.is_read:
        with warned:
            row.attempt(tmp_path)
        return
    with pytest.raises(CraterRayError) as caught, warned:
        row.attempt(tmp_path)
    assert row.answer in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.message.isprintable()
