"""The built-ins keep the promises that plugin authors are held to, and need no torch to list."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crater_ray.builtin.pairs import Pairs
from crater_ray.builtin.readers.folder import Folder
from crater_ray.builtin.readers.manifest import Manifest
from crater_ray.testing import check_consumer, check_reader


@pytest.fixture
def root(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    lines = ["path,group,lat"]
    for number in range(6):
        path = tmp_path / "images" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
        lines.append(f"images/{number}.jpg,{number // 2},{number / 3}")
    (tmp_path / "images.csv").write_text("\n".join(lines))
    return tmp_path


def test_the_readers(root: Path) -> None:
    check_reader(Folder(root))
    check_reader(Manifest(root / "images.csv"))


def test_the_consumer(tmp_path: Path) -> None:
    check_consumer(Pairs(5), tmp_path)


def test_listing_imports_neither_torch_nor_ray(root: Path) -> None:
    program = (
        "import sys; from crater_ray.builtin.readers import folder, manifest; "
        "import crater_ray.builtin.pairs; "
        "folder.Folder(sys.argv[1]).parts(); sys.exit({'torch', 'ray'} & set(sys.modules) != set())"
    )
    subprocess.run([sys.executable, "-c", program, str(root)], check=True)
