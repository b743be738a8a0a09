from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from crater_ray.errors import DamagedIndex, IndexMismatch, QueryError
from crater_ray.index import parts
from crater_ray.index.config import create_or_check
from crater_ray.index.info import info
from crater_ray.index.parts import part_digest
from crater_ray.index.snapshot import Snapshot
from crater_ray.index.store import store_at
from crater_ray.index.versions import Version, publish
from crater_ray.index.writer import PartWriter
from crater_ray.types import Item

SIZES = {"b": 5, "empty": 0, "a": 7, "c": 1}


@pytest.fixture
def opened(tmp_path, config, make):
    make.index(tmp_path, config, SIZES)
    return Snapshot(store_at(tmp_path))


@pytest.fixture
def whole(config, make):
    """The same rows, side by side in memory."""
    items = [item for name, n in SIZES.items() for item in make.items(name, n)]
    arrays = [make.arrays(config, make.items(name, n)) for name, n in SIZES.items()]
    return items, *(np.concatenate([array[i] for array in arrays]) for i in range(3))


def test_rows_stand_in_version_order(opened, whole):
    items, vectors, codes, scales = whole
    assert len(opened) == 13
    assert opened.ids.to_pylist() == [item.id for item in items]
    assert opened.groups.to_pylist() == [item.group for item in items]
    np.testing.assert_array_equal(opened.vectors(), vectors)
    np.testing.assert_array_equal(opened.scales, scales)
    table = opened.items(["id", "lat"])
    assert table.to_pylist() == [{"id": item.id, "lat": item.columns["lat"]} for item in items]
    for row in range(13):
        part, own = opened.part_of(row)
        np.testing.assert_array_equal(part.codes[own], codes[row])
    with pytest.raises(ValueError, match="row 13 of an index of 13"):
        opened.part_of(13)


@pytest.mark.parametrize("rows", [[0, 12, 5, 5, 3, 11, 4], [2, 1], [], list(range(13)), [12]])
def test_gather_equals_the_whole(opened, whole, rows):
    _, _, codes, scales = whole
    got_codes, got_scales = opened.gather(np.array(rows, np.int64))
    np.testing.assert_array_equal(got_codes, codes[rows])
    np.testing.assert_array_equal(got_scales, scales[rows])
    np.testing.assert_array_equal(opened.vectors(np.array(rows, np.int64)), whole[1][rows])
    assert got_codes.flags.c_contiguous
    assert got_codes.dtype == np.uint8


def test_gather_asks_the_disk_for_everything_first(opened, monkeypatch):
    asked: list[tuple[str, int, int]] = []

    def advise(handle: int, offset: int, length: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_WILLNEED
        asked.append((os.readlink(f"/proc/self/fd/{handle}").split("/")[-2].split(".")[0], offset, length))

    monkeypatch.setattr(os, "posix_fadvise", advise)
    opened.gather(np.array([0, 12, 6, 5, 3]))
    assert asked == []  # memory has what was just written
    monkeypatch.setattr(parts, "in_memory", lambda handle, offsets: False)
    opened.gather(np.array([0, 12, 6, 5, 3]))
    assert asked == [("b", 0, 8), ("b", 24, 8), ("a", 0, 16), ("c", 0, 8)]


@pytest.mark.parametrize("rows", [[13], [0, -1]])
def test_gather_refuses_rows_that_are_not_there(opened, rows):
    with pytest.raises(ValueError, match="of an index of 13 rows"):
        opened.gather(np.array(rows))


@pytest.mark.parametrize("size", [1, 3, 100])
def test_blocks_cover_every_row_once(opened, whole, size):
    _, _, codes, scales = whole
    seen = 0
    for first, block, numbers in opened.blocks(size):
        assert first == seen
        assert 0 < len(block) <= size
        np.testing.assert_array_equal(block, codes[first : first + len(block)])
        np.testing.assert_array_equal(numbers, scales[first : first + len(block)])
        seen += len(block)
    assert seen == 13
    with pytest.raises(ValueError, match="use 1 or more"):
        next(opened.blocks(0))


def test_ids_find_their_rows(opened):
    assert opened.row("a/002.jpg") == 7
    assert opened.rows(["c/000.jpg", "nothing", "b/000.jpg"]).tolist() == [12, -1, 0]
    with pytest.raises(QueryError, match=r"no item 'a/02.jpg' in version 1 .* mean 'a/002.jpg'\?"):
        opened.row("a/02.jpg")
    ids = opened.ids.to_pylist()
    assert [ids[row] for row in np.argsort(opened.id_ranks)] == sorted(ids)


def test_columns_of_unlike_readers_are_joined(tmp_path, config, make):
    version = make.index(tmp_path, config, {"a": 2})
    items = [Item("x", "g", "u", columns={"km": 3})]
    digest = part_digest(config.digest(), items)
    columns = pa.schema([("km", pa.int32()), ("body", pa.string())])
    with PartWriter(store_at(tmp_path), "x", digest, config, columns) as part:
        part.append(items, *make.arrays(config, items))
        make.add(tmp_path, version, part.commit())
    table = Snapshot(store_at(tmp_path)).items()
    assert table.column_names == ["id", "group", "uri", "stamp", "lat", "body", "km"]
    assert table.column("lat").to_pylist() == [0.0, 1.0, None]
    assert table.column("body").to_pylist() == ["moon", "moon", None]
    assert table.column("km").to_pylist() == [None, None, 3]
    with pytest.raises(ValueError, match="no column 'mass'; there are: id, group"):
        Snapshot(store_at(tmp_path)).items(["mass"])


def test_a_version_is_pinned(tmp_path, config, make, opened):
    old = opened.ids
    make.add(tmp_path, opened.version, make.part(tmp_path, config, "d", make.items("d", 2)))
    assert len(opened) == 13
    assert len(Snapshot(store_at(tmp_path))) == 15
    assert len(Snapshot(store_at(tmp_path), 1)) == 13
    assert opened.ids is old


def test_segment_rows_mask_what_is_gone(tmp_path, opened):
    dropped = tuple(part for part in reversed(opened.version.parts) if part.name != "a")
    publish(store_at(tmp_path), replace(opened.version, number=2, parent=1, parts=dropped))
    after = Snapshot(store_at(tmp_path))
    assert after.segment_rows(after.segments[0]).tolist() == [1, 2, 3, 4, 5, *[-1] * 7, 0]
    assert opened.segment_rows(opened.segments[0]).tolist() == list(range(13))


def test_every_stage_is_counted(tmp_path, opened):
    shares = opened.bytes_per_image()
    assert shares["codes"] == 8
    assert shares["shortlist"] == pytest.approx(100 / 13)
    assert list(shares)[-1] == "total"
    files = [path for folder in ("parts", "segments") for path in (tmp_path / folder).rglob("*.*")]
    on_disk = sum(path.stat().st_size for path in files if path.is_file() and path.suffix != ".json")
    assert shares["total"] == pytest.approx(on_disk / 13)
    told = info(store_at(tmp_path))
    assert (told["images"], told["parts"], told["version"], told["columns"]["lat"]) == (13, 4, 1, "double")
    assert told["rerank"]["tokens"] == 2


def test_an_index_of_nothing(tmp_path, config):
    create_or_check(store_at(tmp_path), config)
    with pytest.raises(IndexMismatch, match="has no version yet"):
        Snapshot(store_at(tmp_path))
    publish(store_at(tmp_path), Version(1, 0, ()))
    empty = Snapshot(store_at(tmp_path))
    assert len(empty) == 0
    assert empty.ids.to_pylist() == []
    assert empty.vectors().shape == (0, 1, 3)
    assert list(empty.blocks(5)) == []
    codes, scales = empty.gather(np.empty(0, np.int64))
    assert (codes.shape, scales.shape) == ((0, 8), (0, 1))
    assert empty.items().num_rows == 0


def test_more_parts_than_open_files(tmp_path, config, make):
    make.index(tmp_path, config, {f"p{i}": 1 for i in range(40)}, faiss=False)
    code = f"""
import resource
from pathlib import Path
import numpy as np
from crater_ray.index.snapshot import Snapshot
from crater_ray.index.store import store_at
resource.setrlimit(resource.RLIMIT_NOFILE, (24, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
snapshot = Snapshot(store_at({str(tmp_path)!r}))
codes, _ = snapshot.gather(np.arange(40)[::-1])
assert len(snapshot.vectors()) == len(codes) == 40
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_part_is_named(tmp_path, opened):
    folder = opened.parts[2].folder
    folder.rename(tmp_path / "gone")
    with pytest.raises(DamagedIndex, match=rf"{folder.name} is missing; run `crater-ray index` again"):
        Snapshot(store_at(tmp_path))
