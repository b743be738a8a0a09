"""docs/tutorial/merge.md prints what it says it prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.mark.real
@pytest.mark.ray
@pytest.mark.timeout(900)  # a minute of one core, and as long as it takes on a machine that others use
def test_the_walkthrough_prints_what_it_says(moon_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("crater_ray_offline", reason="the backbone dinov2_offline is not installed")
    done = subprocess.run(
        [
            sys.executable,
            str(DOCS / "walk.py"),
            "merge",
            "--check",
            "--moon",
            str(moon_data),
            "--keep",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "merge/consumed/match/picture/georeferenced.tif").is_file()
