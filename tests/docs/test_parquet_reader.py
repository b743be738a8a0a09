"""The Parquet reader of docs/how-to/write-plugin.md lists, loads, and loads many at a time."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from crater_ray.errors import BadImage
from crater_ray.plugins import LoadsMany
from crater_ray.testing import check_reader

sys.path.append(str(Path(__file__).parents[2] / "docs"))

from blocks import blocks

(BLOCK,) = (block for block in blocks("python") if "class ParquetImages" in block.text)


def image(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), number, np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_the_parquet_reader_of_the_page(tmp_path: Path) -> None:
    images = [image(number) for number in range(10)]
    table = pa.table(
        {
            "id": [f"c{number}" for number in range(10)],
            "image": [*images[:9], None],
            "diameter_km": np.arange(10.0),
        }
    )
    pq.write_table(table, tmp_path / "craters.parquet", row_group_size=4)
    page: dict[str, Any] = {}
    exec(compile(BLOCK.text, str(BLOCK), "exec"), page)
    reader = page["ParquetImages"](tmp_path / "craters.parquet")
    check_reader(reader, images=8)
    assert isinstance(reader, LoadsMany)
    assert reader.columns == pa.schema([("diameter_km", pa.float64())])
    items = [item for part in reader.parts() for item in reader.read(part)]
    assert [item.columns["diameter_km"] for item in items] == list(range(10))
    found = reader.load_many([item.uri for item in reversed(items)])
    assert found[1:] == images[8::-1]
    assert isinstance(found[0], BadImage)
    with pytest.raises(BadImage, match="the cell is empty"):
        reader.load(items[9].uri)
