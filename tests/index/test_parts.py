from __future__ import annotations

import datetime
import os
import threading
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from crater_ray.errors import DamagedIndex, ReaderError
from crater_ray.index.config import create_or_check
from crater_ray.index.parts import done, open_part, part_digest, part_folder, skipped
from crater_ray.index.store import store_at
from crater_ray.index.writer import PartWriter
from crater_ray.types import Item


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_rows_give_the_same_bytes_whatever_the_batches(tmp_path, config, make):
    items = make.items("a", 7)
    skip = {items[3].id: "truncated", items[1].id: "zero bytes"}
    one = make.part(tmp_path / "one", config, "a", items, batch=2, skip=skip)
    two = make.part(tmp_path / "two", config, "a", items, batch=5, skip=dict(reversed(skip.items())))
    assert one == two
    first, second = (
        files(part_folder(store_at(tmp_path / name), "a", one.digest)) for name in ("one", "two")
    )
    assert first == second
    assert set(first) == {"items.parquet", "vectors.npy", "codes.bin", "scales.npy", "part.json"}
    assert str(tmp_path).encode() not in b"".join(first.values())


def test_rows_come_back(tmp_path, config, make):
    items = make.items("a", 7)
    entry = make.part(tmp_path, config, "a", items, skip={items[2].id: "truncated"})
    kept = [item for item in items if item is not items[2]]
    vectors, codes, scales = make.arrays(config, kept)
    part = open_part(store_at(tmp_path), entry)
    assert (entry.rows, entry.skipped, len(part)) == (6, 1, 6)
    np.testing.assert_array_equal(part.vectors, vectors)
    np.testing.assert_array_equal(part.codes, codes)
    np.testing.assert_array_equal(part.scales, scales)
    assert not part.codes.flags.writeable
    assert part.items().to_pylist() == [
        {"id": item.id, "group": item.group, "uri": item.uri, "stamp": item.stamp, **item.columns}
        for item in kept
    ]
    assert part.items(["lat"]).column_names == ["lat"]
    assert skipped(store_at(tmp_path), entry) == {items[2].id: "truncated"}
    assert not list((tmp_path / "tmp").iterdir())


def test_a_part_of_nothing_but_bad_images(tmp_path, config, make):
    items = make.items("a", 2)
    entry = make.part(tmp_path, config, "a", items, skip={item.id: "bad" for item in items})
    part = open_part(store_at(tmp_path), entry)
    assert (entry.rows, entry.skipped) == (0, 2)
    assert part.vectors.shape == (0, 1, 3)
    assert part.codes.shape == (0, 8)
    assert part.scales.shape == (0, 1)
    assert part.items().num_rows == 0
    assert part.items().schema.names == ["id", "group", "uri", "stamp", "lat", "body"]


def test_a_codec_without_scales_writes_none(tmp_path, config, make):
    config = replace(config, codec="fp16", scales=0, record_bytes=16)
    entry = make.part(tmp_path, config, "a", make.items("a", 3))
    assert not (part_folder(store_at(tmp_path), "a", entry.digest) / "scales.npy").exists()
    assert open_part(store_at(tmp_path), entry).scales.shape == (3, 0)


def test_the_digest_is_of_config_and_items_in_order():
    items = [
        Item("a", "g", "u", "s", columns={"lat": 1.0, "when": datetime.date(1999, 1, 1)}),
        Item("b", "g", "v"),
    ]
    digest = part_digest("r", items)
    assert digest == part_digest("r", list(items))
    assert digest == part_digest("r", [replace(items[0], relevant={"g": 2.0}), items[1]])
    assert part_digest("r", [Item("a", "g", "u", columns={"n": np.float32(0.5)})]) == part_digest(
        "r", [Item("a", "g", "u", columns={"n": 0.5})]
    )
    for other in (
        ("q", items),
        ("r", items[::-1]),
        ("r", items[:1]),
        ("r", [replace(items[0], stamp="t"), items[1]]),
        ("r", [replace(items[0], columns={"lat": 2.0}), items[1]]),
    ):
        assert part_digest(*other) != digest
    with pytest.raises(ReaderError, match=r"item 'a': a column holds a object"):
        part_digest("r", [Item("a", "g", "u", columns={"x": object()})])


def test_done_trusts_whole_parts_only(tmp_path, config, make):
    items = make.items("a", 4)
    digest = part_digest(config.digest(), items)
    assert done(store_at(tmp_path), "a", digest) is None
    entry = make.part(tmp_path, config, "a", items)
    assert done(store_at(tmp_path), "a", digest) == entry
    folder = part_folder(store_at(tmp_path), "a", digest)
    os.truncate(folder / "codes.bin", 5)
    assert done(store_at(tmp_path), "a", digest) is None
    with pytest.raises(DamagedIndex, match=r"codes.bin has 5 bytes, not 32"):
        open_part(store_at(tmp_path), entry)
    assert make.part(tmp_path, config, "a", items) == entry  # mended; the damaged one is moved away
    assert done(store_at(tmp_path), "a", digest) == entry
    for name in ("part.json", "items.parquet"):
        (folder / name).unlink()
        assert done(store_at(tmp_path), "a", digest) is None
        with pytest.raises(DamagedIndex, match=f"{name} is missing"):
            open_part(store_at(tmp_path), entry)
        assert make.part(tmp_path, config, "a", items) == entry


def test_an_attempt_that_is_given_up_leaves_nothing(tmp_path, config, make):
    items = make.items("a", 2)
    with PartWriter(store_at(tmp_path), "a", "d", config, make.columns) as part:
        part.append(items, *make.arrays(config, items))
    assert not list((tmp_path / "tmp").iterdir())
    assert done(store_at(tmp_path), "a", "d") is None


def test_of_many_writers_one_wins_and_all_agree(tmp_path, config, make):
    create_or_check(store_at(tmp_path), config)
    items, gate, got = make.items("a", 5), threading.Barrier(6), []

    def write() -> None:
        gate.wait()
        got.append(make.part(tmp_path, config, "a", items))

    threads = [threading.Thread(target=write) for _ in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(got) == 6
    assert len(set(got)) == 1
    assert len(list((tmp_path / "parts").iterdir())) == 1
    assert not list((tmp_path / "tmp").iterdir())


def test_the_loser_takes_the_part_that_came_first(tmp_path, config, make):
    items = make.items("a", 3)
    digest = part_digest(config.digest(), items)
    with PartWriter(store_at(tmp_path), "a", digest, config, make.columns) as slow:
        first = make.part(tmp_path, config, "a", items)
        before = files(part_folder(store_at(tmp_path), "a", digest))
        slow.append(items[:1], *make.arrays(config, items[:1]))
        assert slow.commit() == first
    assert files(part_folder(store_at(tmp_path), "a", digest)) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vectors": np.zeros((2, 1, 4), np.float16)}, r"vectors must be float16 \(2, 1, 3\), not float16"),
        ({"vectors": np.zeros((2, 1, 3), np.float32)}, "vectors must be float16"),
        ({"codes": np.zeros((2, 9), np.uint8)}, r"codes must be uint8 \(2, 8\)"),
        ({"scales": np.zeros((2, 2), np.float32)}, r"scales must be float32 \(2, 1\)"),
        ({"vectors": np.full((2, 1, 3), np.nan, np.float16)}, r"vectors of item 'a/000.jpg' are not finite"),
        ({"scales": np.array([[1], [np.inf]], np.float32)}, r"scales of item 'a/001.jpg' are not finite"),
    ],
)
def test_rows_of_the_wrong_shape(tmp_path, config, make, change, message):
    items = make.items("a", 2)
    given = dict(zip(("vectors", "codes", "scales"), make.arrays(config, items), strict=True)) | change
    writer = PartWriter(store_at(tmp_path), "a", "d", config, make.columns)
    with writer as part, pytest.raises(ValueError, match=message):
        part.append(items, **given)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (Item("x", "g", "u", columns={"lat": "north"}), r"item 'x' of part a has lat = 'north', which is no"),
        (
            Item("x", "g", "u", columns={"lta": 1.0}),
            r"item 'x' of part a has a column 'lta' that the reader's",
        ),
        (Item("", "g", "u"), r"an item of part a has no id \(uri 'u'\)"),
        (Item("x\udcff", "g", "u"), r"has id = 'x\\udcff', which is no string"),
    ],
)
def test_items_that_do_not_fit(tmp_path, config, make, item, message):
    items = [*make.items("a", 1), item]
    writer = PartWriter(store_at(tmp_path), "a", "d", config, make.columns)
    with writer as part, pytest.raises(ReaderError, match=message):
        part.append(items, *make.arrays(config, items))


def test_a_column_name_that_is_taken(tmp_path, config):
    with pytest.raises(ReaderError, match="declares a column 'uri', a name that is taken"):
        PartWriter(store_at(tmp_path), "a", "d", config, pa.schema([("uri", pa.string())]))


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "x" * 161, "a\nb"])
def test_a_part_name_that_is_no_file_name(tmp_path, config, make, name):
    with pytest.raises(ReaderError, match="the reader names a part"):
        PartWriter(store_at(tmp_path), name, "d", config, make.columns)
