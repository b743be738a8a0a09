"""Photographs from the shared data, where they are, and a scene painted here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("CRATER_RAY_DATA", Path(__file__).parents[4] / "shared" / "data"))


@pytest.fixture(scope="session")
def copr() -> Path:
    """41 aerial photographs of dunes, 900 x 600."""
    folder = DATA / "sfm" / "copr" / "images"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: set CRATER_RAY_DATA to the folder that holds sfm/")
    return folder
