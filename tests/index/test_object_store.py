"""An index on object storage, against a real server: who commits, what is copied, what errors say."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from crater_ray.errors import DamagedIndex, IndexMismatch
from crater_ray.index.compacted import compact_parts, extract, locations, members
from crater_ray.index.config import create_or_check, read_config
from crater_ray.index.fitted import read_fitted, write_fitted
from crater_ray.index.lock import DriverLock
from crater_ray.index.parts import done, part_digest, recorded
from crater_ray.index.s3 import Bucket
from crater_ray.index.segments import ShortlistSpec, write_segment
from crater_ray.index.snapshot import Snapshot
from crater_ray.index.store import store_at
from crater_ray.index.verify import verify
from crater_ray.index.versions import Version, VersionTaken, latest, numbers, publish
from crater_ray.index.writer import PartWriter
from crater_ray.jobfile import told
from crater_ray.jobs.change import put

SIZES = {"a": 5, "b": 3, "c": 0}


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """From now on this is another machine, as far as copies go."""
    return lambda name: monkeypatch.setenv("CRATER_RAY_CACHE", str(tmp_path / name))


def files(root, pattern="parts/*/*"):
    """name -> bytes of what is here."""
    there = store_at(root).local
    return {str(path.relative_to(there)): path.read_bytes() for path in there.glob(pattern) if path.is_file()}


def data(root):
    return {name: value for name, value in files(root).items() if not name.endswith("part.json")}


def objects(root):
    return set(Bucket(told(root)).keys(""))


def the(*some):
    """The only one there is."""
    (one,) = some
    return one


# who commits


def test_the_loser_of_a_part_takes_the_winners_and_leaves_nothing_behind(place, config, make, machine):
    create_or_check(store_at(place), config)
    items = make.items("a", 4)
    digest = part_digest(config.digest(), items)
    machine("there")
    with PartWriter(store_at(place), "a", digest, config, make.columns) as slow:
        vectors, codes, scales = make.arrays(config, items[:3])
        slow.append(items[:3], vectors, codes, scales)
        slow.skip(items[3].id, "this machine could not read it")
        machine("here")
        won = make.part(place, config, "a", items)
        machine("there")
        lost = slow.commit()
    assert lost == won == done(store_at(place), "a", digest)
    attempt = recorded(store_at(place), won).attempt
    below = {key for key in objects(place) if key.startswith("parts/")}
    assert below == {f"parts/a.{digest}/part.json"} | {
        f"parts/a.{digest}/{attempt}/{name}" for name in recorded(store_at(place), won).files
    }
    assert list((store_at(place).local / "tmp").iterdir()) == []


def test_a_writer_that_is_killed_before_it_commits_leaves_no_part(place, config, make, monkeypatch):
    create_or_check(store_at(place), config)
    items = make.items("a", 4)
    digest = part_digest(config.digest(), items)

    def killed(self, key, content):
        raise KeyboardInterrupt

    with monkeypatch.context() as power:
        power.setattr(Bucket, "create", killed)
        with pytest.raises(KeyboardInterrupt):
            make.part(place, config, "a", items)
    left = {key.split("/")[2] for key in Bucket(told(place)).keys("parts")}
    assert done(store_at(place), "a", digest) is None
    publish(store_at(place), Version(1, 0, (make.part(place, config, "a", items),), (), make.readers))
    found = verify(store_at(place))
    assert found.problems == ()
    assert [note.path for note in found.notes] == [f"parts/a.{digest}/{attempt}" for attempt in left]
    assert len(left) == 1


def test_of_two_drivers_with_one_number_one_publishes(place, config, make, machine):
    version = make.index(place, config, SIZES)
    again = Version(2, 1, version.parts[:2], version.segments, version.readers)

    def told_by(name):
        machine(name)
        try:
            return publish(store_at(place), again)
        except VersionTaken as error:
            return error

    outcomes = [told_by("here"), told_by("there")]
    assert [type(outcome) for outcome in outcomes] == [Version, VersionTaken]
    assert numbers(store_at(place)) == [1, 2]
    assert latest(store_at(place)) == again


def test_a_version_that_says_the_same_is_still_anothers(place, config, make, machine, monkeypatch):
    create_or_check(store_at(place), config)
    part = make.part(place, config, "a", make.items("a", 2))
    version = Version(1, 0, (part,), (), make.readers)
    monkeypatch.setattr(
        "crater_ray.index.versions.numbers", lambda store: []
    )  # both looked before either wrote
    publish(store_at(place), version)
    machine("there")
    with pytest.raises(VersionTaken):
        publish(store_at(place), version)


def test_the_driver_that_loses_a_number_goes_on_with_the_next(place, config, make):
    make.index(place, config, SIZES)
    both = threading.Barrier(2, timeout=30)
    waited = set()

    def dropped(name):
        def change(parent, before):
            return {part: held for part, held in before.items() if part != name}, set()

        def segments(parts, parent):
            if name not in waited:  # both have looked at the same parent
                waited.add(name)
                both.wait()
            return parent.segments

        return put(store_at(place), config, change, segments).version

    with ThreadPoolExecutor(2) as threads:
        versions = list(threads.map(dropped, ["a", "b"]))
    first, second = sorted(versions, key=lambda version: version.number)
    assert [first.number, second.number] == [2, 3]
    assert len(first.parts) == 2
    assert [part.name for part in second.parts] == ["c"]  # it went on from what the other had published


# what is kept, and what is copied


def test_it_holds_the_bytes_of_an_index_in_a_folder(place, config, make, machine, tmp_path):
    on_disk = tmp_path / "on_disk"
    there, here = make.index(place, config, SIZES), make.index(on_disk, config, SIZES)
    assert there == here
    for entry in here.parts:
        assert recorded(store_at(place), entry).files == recorded(store_at(on_disk), entry).files
    machine("there")
    copied, plain = Snapshot(store_at(place)), Snapshot(store_at(on_disk))
    copied.download()
    assert data(place) == data(on_disk)
    assert files(place, "segments/*/*.faiss") == files(on_disk, "segments/*/*.faiss")
    assert copied.ids.equals(plain.ids)
    rows = np.array([7, 0, 4])
    assert all(np.array_equal(a, b) for a, b in zip(copied.gather(rows), plain.gather(rows), strict=True))
    assert np.array_equal(copied.vectors(), plain.vectors())
    copied.check()
    found = verify(store_at(place))
    assert (found.problems, found.notes) == ((), ())
    assert found.bytes == verify(store_at(on_disk)).bytes
    fitted = write_fitted(store_at(place), {"x": np.arange(3)})
    machine("elsewhere")
    assert np.array_equal(read_fitted(store_at(place), fitted)["x"], np.arange(3))


def test_packs_are_found_and_taken_apart_on_any_machine(place, config, make, machine):
    version = make.index(place, config, SIZES)
    whole = compact_parts(store_at(place), config, version.parts)
    publish(store_at(place), Version(2, 1, (whole,), (), version.readers))
    machine("there")
    assert [member.rows for member in members(store_at(place), whole)] == [5, 3, 0]
    places = locations(store_at(place))
    member = version.parts[1]
    before = recorded(store_at(place), member).files
    here = Bucket(told(place))
    here.remove([key for key in here.keys("parts") if key.startswith(f"parts/{member.folder}/")])
    machine("elsewhere")
    assert done(store_at(place), *member_key(member)) is None
    assert extract(store_at(place), config, places[member_key(member)]) == member
    assert recorded(store_at(place), member).files == before
    assert verify(store_at(place)).problems == ()


def member_key(part):
    return part.name, part.digest


def test_only_what_is_needed_is_copied(place, config, make, machine):
    version = make.index(place, config, {"a": 5})
    part = make.part(place, config, "b", make.items("b", 3))
    sha = write_segment(store_at(place), [part], ShortlistSpec("Flat", seed=0, m=1, dim=3))
    publish(store_at(place), Version(2, 1, (*version.parts, part), (*version.segments, sha), version.readers))
    machine("searcher")
    share = Snapshot(store_at(place), segments=[sha])
    assert {name.rpartition("/")[2] for name in files(place)} == {"part.json"}
    share.download()
    assert {Path(name).parent.name for name in data(place)} == {part.folder}
    assert not files(place, "segments/*/*.faiss")
    assert len(share) == 3
    before = {path: path.stat().st_mtime_ns for path in store_at(place).local.glob("parts/*/*")}
    Snapshot(store_at(place), segments=[sha]).download()  # another searcher of this machine
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("damage", ["flipped", "short", "gone"])
def test_an_object_that_is_not_what_was_written_is_named_when_it_is_copied(
    place, config, make, machine, damage
):
    version = make.index(place, config, SIZES)
    record = recorded(store_at(place), version.parts[0])
    key = f"parts/{version.parts[0].folder}/{record.attempt}/codes.bin"
    here = Bucket(told(place))
    good = here.get(key)
    if damage == "gone":
        here.remove([key])
    else:
        here.put(key, good[:-1] if damage == "short" else bytes([good[0] ^ 1]) + good[1:])
    machine("there")
    reason = {"flipped": "does not match its checksum", "short": "has 39 bytes, not 40", "gone": "is missing"}
    with pytest.raises(DamagedIndex) as raised:
        Snapshot(store_at(place)).download()
    assert f"{told(place)}/{key} {reason[damage]}" in str(raised.value)
    assert not list(store_at(place).local.glob("parts/*/codes.bin.*"))
    problem = the(*verify(store_at(place)).problems)
    assert problem.path == key
    assert reason[damage] in problem.reason
    here.put(key, good)
    Snapshot(store_at(place)).download()
    assert verify(store_at(place)).problems == ()


def test_a_damaged_record_version_or_fit_is_named_and_not_copied(place, config, make, machine):
    version = make.index(place, config, SIZES)
    fitted = write_fitted(store_at(place), {"x": np.arange(3)})
    here = Bucket(told(place))
    part = f"parts/{version.parts[0].folder}/part.json"
    for key in (part, "versions/1.json", f"fitted/{fitted}.safetensors", "index.json"):
        good = here.get(key)
        machine(f"there {key.partition('/')[0]}")
        here.put(
            key, good.replace(b'checksum": "', b'checksum": "0') if key.endswith("json") else good[:-1] + b"x"
        )
        with pytest.raises(DamagedIndex, match=f"{told(place)}/{key} .*checksum"):
            Snapshot(store_at(place)), read_fitted(store_at(place), fitted)
        if not key.startswith("fitted"):  # no version needs it
            assert key in {problem.path for problem in verify(store_at(place)).problems}
        here.put(key, good)
        assert len(Snapshot(store_at(place))) == 8
        assert len(read_fitted(store_at(place), fitted)) == 1


def test_a_bad_copy_is_copied_again(place, config, make):
    make.index(place, config, SIZES)
    snapshot = Snapshot(store_at(place))
    before = data(place)
    for name in list(before)[:3]:
        path = store_at(place).local / name
        path.write_bytes(path.read_bytes()[::-1])
    faiss = the(*store_at(place).local.glob("segments/*/*.faiss"))
    faiss.write_bytes(b"x" * faiss.stat().st_size)
    snapshot.check()
    assert data(place) == before
    assert faiss.read_bytes() == b"faiss" * 20


def test_uploads_that_did_not_finish_are_noted(place, config, make):
    version = make.index(place, config, SIZES)
    Bucket(told(place)).put(f"parts/{version.parts[0].folder}/0123/codes.bin", b"half")
    Bucket(told(place)).put("parts/d.0123/4567/codes.bin", b"half")
    found = verify(store_at(place))
    assert found.problems == ()
    assert {note.path for note in found.notes} == {
        f"parts/{version.parts[0].folder}/0123",
        "parts/d.0123/4567",
        "parts/d.0123",
    }


def test_an_index_made_anew_does_not_meet_the_copies_of_the_old_one(place, config, make):
    make.index(place, config, SIZES)
    Snapshot(store_at(place)).download()
    first = store_at(place).local
    here = Bucket(told(place))
    here.remove(list(here.keys("")))
    assert latest(store_at(place)) is None
    make.index(place, config, {"a": 2})
    assert len(Snapshot(store_at(place))) == 2
    assert store_at(place).local != first


def test_names_of_parts_may_be_odd(place, config, make, machine):
    sizes = {"a b+c%20*é.x": 2, "n60e030x30": 1}
    make.index(place, config, sizes)
    machine("there")
    assert len(Snapshot(store_at(place)).items()) == 3
    assert verify(store_at(place)).notes == ()


# what is said


def test_a_driver_of_this_machine_waits_and_a_foreign_place_is_left_alone(place, config):
    with (
        DriverLock(store_at(place)),
        pytest.raises(IndexMismatch, match=f"another driver .* writes {told(place)};"),
    ):
        DriverLock(store_at(place)).__enter__()
    beside = place.with_name("holidays")
    Bucket(told(beside)).put("beach.jpg", b"dear")
    for begin in (
        lambda: DriverLock(store_at(beside)).__enter__(),
        lambda: create_or_check(store_at(beside), config),
    ):
        with pytest.raises(IndexMismatch, match=r"holidays is not an index: it holds beach\.jpg"):
            begin()
    assert objects(beside) == {"beach.jpg"}


def test_nothing_there_is_said_as_of_a_folder(place):
    assert latest(store_at(place)) is None
    with pytest.raises(IndexMismatch, match=f"{told(place)} is not an index: nothing is there"):
        read_config(store_at(place))
    assert not store_at(place).local.exists()
