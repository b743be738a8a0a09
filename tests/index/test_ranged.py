"""Rows that are read by ranges are those of the file, and no more of it travels than must."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import replace

import numpy as np
import pytest

from crater_ray.errors import DamagedIndex
from crater_ray.index import ranged
from crater_ray.index.parts import CODES, SCALES, VECTORS
from crater_ray.index.ranged import Rows, read_rows
from crater_ray.index.s3 import Bucket
from crater_ray.index.snapshot import Snapshot
from crater_ray.index.store import Copy, FolderStore, store_at
from crater_ray.jobfile import told

ROWS = np.array([3, 90, 3, 41, 0, 99, 42])


@pytest.fixture
def other(monkeypatch, tmp_path):
    """This is a machine without copies."""
    return lambda name="other": monkeypatch.setenv("CRATER_RAY_CACHE", str(tmp_path / name))


def counted(storage):
    with urllib.request.urlopen(f"{storage}/counted") as answer:
        return json.load(answer)


def here(root):
    return {path.name for path in store_at(root).local.glob("parts/*/*")}


@pytest.mark.parametrize("gap", [0, 100, 1 << 20])
def test_rows_come_in_their_order_whatever_lies_between(tmp_path, monkeypatch, gap):
    monkeypatch.setattr(ranged, "GAP", gap)
    content = np.random.default_rng(0).integers(0, 256, (100, 7), np.uint8)
    path = tmp_path / "x"
    path.write_bytes(b"header" + content.tobytes())
    rows = Rows(Copy(path, "x", None), 6, 7, ROWS)
    nothing = replace(rows, rows=np.empty(0, np.int64))
    first, none, second = read_rows(FolderStore(tmp_path), [rows, nothing, replace(rows, rows=ROWS[::-1])])
    assert np.array_equal(first, content[ROWS])
    assert np.array_equal(second, content[ROWS[::-1]])
    assert none.shape == (0, 7)
    assert len(rows.runs()) == {0: 5, 100: 3, 1 << 20: 1}[gap]


def test_few_rows_are_read_by_ranges_and_many_are_copied_and_checked(
    place, storage, config, make, other, tmp_path
):
    config = replace(config, record_bytes=50_000)
    sizes = {"a": 60, "b": 40}
    make.index(place, config, sizes)
    make.index(tmp_path / "folder", config, sizes)
    plain = Snapshot(store_at(tmp_path / "folder"))
    other()
    far = Snapshot(store_at(place))
    far.download(tokens=False)
    assert here(place) == {"part.json", "items.parquet"}
    counted(storage)
    for one, same in zip(far.gather(ROWS), plain.gather(ROWS), strict=True):
        assert np.array_equal(one, same)
    travelled = counted(storage)
    # runs of codes: 0, 3, 41-42 in a; 30, 39 in b; of scales one in each part
    assert travelled["requests"] == 5 + 2
    assert travelled["bytes"] <= 6 * 50_000 + 100 * 4
    assert np.array_equal(far.vectors(ROWS), plain.vectors(ROWS))
    assert {CODES, SCALES, VECTORS}.isdisjoint(here(place))
    many = np.arange(35)
    assert np.array_equal(far.gather(many)[0], plain.gather(many)[0])
    assert [path.parent.name[0] for path in store_at(place).local.glob(f"parts/*/{CODES}")] == ["a"]
    every = np.arange(100)
    assert np.array_equal(far.gather(every)[0], plain.gather(every)[0])
    assert np.array_equal(far.scales, plain.scales)
    assert {CODES, SCALES} <= here(place)


@pytest.mark.parametrize(("damage", "says"), [("short", "ends before byte"), ("gone", "is missing")])
def test_a_file_that_lacks_the_rows_is_named(place, config, make, other, damage, says):
    make.index(place, config, {"a": 60})
    bucket = Bucket(told(place))
    (key,) = (key for key in bucket.keys("parts") if key.endswith(CODES))
    other()
    far = Snapshot(store_at(place))
    bucket.remove([key]) if damage == "gone" else bucket.put(key, bucket.get(key)[:100])
    with pytest.raises(DamagedIndex, match=f"{told(place)}/{key} {says}"):
        far.gather(ROWS[:5] % 60)
