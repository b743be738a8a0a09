from __future__ import annotations

import json
import threading
from dataclasses import replace

import pyarrow as pa
import pytest

from crater_ray.errors import DamagedIndex, IndexMismatch, ReaderError
from crater_ray.index.parts import open_part, part_digest, part_folder
from crater_ray.index.segments import ShortlistSpec, read_segment, segment_key, write_segment
from crater_ray.index.store import store_at
from crater_ray.index.versions import Version, VersionTaken, check_ids, latest, numbers, publish, read
from crater_ray.index.writer import PartWriter


def test_versions_come_back_and_the_highest_is_in_force(tmp_path, config, make):
    assert latest(store_at(tmp_path)) is None
    first = make.index(tmp_path, config, {"b": 2, "a": 3})
    second = make.add(tmp_path, first, make.part(tmp_path, config, "c", make.items("c", 4)))
    assert numbers(store_at(tmp_path)) == [1, 2]
    assert latest(store_at(tmp_path)) == second
    assert read(store_at(tmp_path), 1) == first
    assert [part.name for part in second.parts] == ["b", "a", "c"]
    assert (first.rows, second.rows) == (5, 9)
    assert first.readers[0].options == {"root": "/pictures"}
    with pytest.raises(IndexMismatch, match="has no version 7; there are: 1, 2"):
        read(store_at(tmp_path), 7)


def test_ten_comes_after_nine(tmp_path):
    for n in range(1, 12):
        publish(store_at(tmp_path), Version(n, n - 1, ()))
    found = latest(store_at(tmp_path))
    assert found is not None
    assert found.number == 11


def test_of_two_drivers_one_publishes(tmp_path, config, make):
    version = make.index(tmp_path, config, {"a": 3})
    following = replace(version, number=2, parent=1)
    publish(store_at(tmp_path), following)
    with pytest.raises(VersionTaken, match="version 2 on 1: 2 is current"):
        publish(store_at(tmp_path), replace(following, allow_missing=("b",)))
    assert latest(store_at(tmp_path)) == following
    gate, won, lost = threading.Barrier(5), [], []

    def race(name: str) -> None:
        gate.wait()
        try:
            won.append(
                publish(store_at(tmp_path), replace(version, number=3, parent=2, allow_missing=(name,)))
            )
        except VersionTaken:
            lost.append(name)

    threads = [threading.Thread(target=race, args=(f"p{i}",)) for i in range(5)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(won) == 1
    assert len(lost) == 4
    assert latest(store_at(tmp_path)) == won[0]


def test_an_id_in_two_parts_is_refused_by_name(tmp_path, config, make):
    version = make.index(tmp_path, config, {"a": 3, "b": 2})
    again = [*make.items("c", 2), make.items("a", 3)[1]]
    with pytest.raises(ReaderError, match=r"id 'a/001.jpg' stands in part a and in part c; ids must be uni"):
        make.add(tmp_path, version, make.part(tmp_path, config, "c", again))
    twice = [*make.items("d", 2), *make.items("d", 2)]
    with pytest.raises(ReaderError, match=r"id 'd/000.jpg' stands twice in part d; .*1 more ids are rep"):
        make.add(tmp_path, version, make.part(tmp_path, config, "d", twice))
    assert numbers(store_at(tmp_path)) == [1]


def test_check_ids_counts():
    assert check_ids([("a", pa.array(["x", "y"])), ("b", pa.chunked_array([["z"], []], pa.string()))]) == 3
    assert check_ids([]) == 0


def test_a_version_lists_only_what_is_there(tmp_path, config, make):
    version = make.index(tmp_path, config, {"a": 3})
    for parts in ((replace(version.parts[0], digest="0" * 32),), (replace(version.parts[0], rows=4),)):
        with pytest.raises(DamagedIndex, match=r"missing|tells of 3 rows"):
            publish(store_at(tmp_path), Version(2, 1, parts))
    with pytest.raises(DamagedIndex, match="segments/nothing is missing"):
        publish(store_at(tmp_path), Version(2, 1, version.parts, ("nothing",)))
    with pytest.raises(ValueError, match="part 'a' stands 2 times"):
        publish(store_at(tmp_path), Version(2, 1, version.parts * 2))
    with pytest.raises(ValueError, match="part 'a' names reader 1 of 1"):
        publish(
            store_at(tmp_path), Version(2, 1, (replace(version.parts[0], reader=1),), (), version.readers)
        )


def test_a_column_has_one_type(tmp_path, config, make):
    version = make.index(tmp_path, config, {"a": 3})
    items = [replace(item, columns={"lat": "north"}) for item in make.items("b", 1)]
    digest = part_digest(config.digest(), items)
    with PartWriter(store_at(tmp_path), "b", digest, config, pa.schema([("lat", pa.string())])) as part:
        part.append(items, *make.arrays(config, items))
        entry = part.commit()
    with pytest.raises(ReaderError, match="column 'lat' is double in part a and string in part b"):
        make.add(tmp_path, version, entry)


def test_a_newer_version_file(tmp_path, config, make):
    make.index(tmp_path, config, {"a": 3})
    path = tmp_path / "versions" / "1.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 9}))
    with pytest.raises(IndexMismatch, match=r"newer crater-ray \(format 9"):
        latest(store_at(tmp_path))


def test_segments_are_named_by_what_they_are_made_of(tmp_path, config, make):
    version = make.index(tmp_path, config, {"a": 3, "b": 2})
    same = ShortlistSpec("SQ8", seed=0, m=1, dim=3)
    sha = version.segments[0]
    assert segment_key(version.parts, same) == sha
    others = [
        segment_key(version.parts[::-1], same),
        segment_key(version.parts[:1], same),
        *(
            segment_key(version.parts, replace(same, **{key: value}))
            for key, value in {"factory": "Flat", "seed": 1, "m": 2, "dim": 4, "fitted": "a"}.items()
        ),
    ]
    assert len({sha, *others}) == 8
    segment = read_segment(store_at(tmp_path), sha)
    assert (segment.rows, segment.factory, segment.dim) == (5, "SQ8", 3)
    assert segment.file is not None
    assert segment.file.read_bytes() == b"faiss" * 20


def test_a_segment_is_built_once_and_mended_when_it_is_short(tmp_path, config, make):
    version = make.index(tmp_path, config, {"a": 3})
    sha, built = version.segments[0], []

    def write(path) -> None:
        built.append(path)
        path.write_bytes(b"again")

    same = ShortlistSpec("SQ8", seed=0, m=1, dim=3)
    assert write_segment(store_at(tmp_path), version.parts, same, write) == sha
    assert not built
    file = read_segment(store_at(tmp_path), sha).file
    file.write_bytes(b"short")
    with pytest.raises(DamagedIndex, match=r"shortlist.faiss has 5 bytes, not 100"):
        read_segment(store_at(tmp_path), sha)
    assert write_segment(store_at(tmp_path), version.parts, same, write) == sha
    assert len(built) == 1
    file.unlink()
    with pytest.raises(DamagedIndex, match=r"shortlist.faiss is missing"):
        read_segment(store_at(tmp_path), sha)


def test_a_deleted_part_is_made_again_with_the_same_name(tmp_path, config, make):
    version = make.index(tmp_path, config, {"a": 3})
    folder = part_folder(store_at(tmp_path), "a", version.parts[0].digest)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    with pytest.raises(DamagedIndex, match="run `crater-ray index` again to make it"):
        open_part(store_at(tmp_path), version.parts[0])
    make.part(tmp_path, config, "a", make.items("a", 3))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
