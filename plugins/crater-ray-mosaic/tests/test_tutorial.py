"""docs/tutorial/own-mosaic.md prints what it says it prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WALK = Path(__file__).resolve().parents[3] / "docs" / "walk.py"


@pytest.mark.real
@pytest.mark.ray
@pytest.mark.timeout(900)  # half a minute of one core, and as long as it takes on a machine that others use
def test_the_tutorial_prints_what_it_says(moon_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("crater_ray_offline", reason="the backbone dinov2_offline is not installed")
    words = [
        sys.executable,
        str(WALK),
        "own-mosaic",
        "--check",
        "--moon",
        str(moon_data),
        "--keep",
        str(tmp_path),
    ]
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
