"""What is collected on object storage: beside readers and writers of other machines, who have no lock."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

import numpy as np
import obstore
import pytest
from obstore.exceptions import PermissionDeniedError

from crater_ray.errors import IndexMismatch
from crater_ray.files import write_whole
from crater_ray.index import object_leases
from crater_ray.index.fitted import write_fitted
from crater_ray.index.gc import Collected, collect
from crater_ray.index.lock import DriverLock
from crater_ray.index.parts import PART, done
from crater_ray.index.s3 import Bucket
from crater_ray.index.segments import ShortlistSpec, write_segment
from crater_ray.index.snapshot import Snapshot
from crater_ray.index.store import store_at
from crater_ray.index.verify import verify
from crater_ray.index.versions import numbers, publish
from crater_ray.jobfile import told

NOW = timedelta()


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """From now on this is another machine, as far as copies and leases go."""
    return lambda name: monkeypatch.setenv("CRATER_RAY_CACHE", str(tmp_path / name))


@pytest.fixture
def grown(place, config, make):
    """1: a, b; 2: a, b, c with a fit of its own; 3: c alone."""
    store = store_at(place)
    first = make.index(place, config, {"a": 3, "b": 4})
    learnt = write_fitted(store, {"axes": np.eye(2)})
    c = make.part(place, config, "c", make.items("c", 2))
    plain = ShortlistSpec("Flat", seed=0, m=1, dim=3)
    both = (*first.segments, write_segment(store, (c,), replace(plain, fitted=learnt)))
    publish(store, replace(first, number=2, parent=1, parts=(*first.parts, c), segments=both))
    alone = write_segment(store, (c,), plain)
    publish(store, replace(first, number=3, parent=2, parts=(c,), segments=(alone,)))
    return place


def below(place, *folders):
    return {key for folder in folders for key in Bucket(told(place)).keys(folder)}


def folders(place):
    return {key.split("/")[1].split(".")[0] for key in below(place, "parts")}


def test_what_only_old_versions_refer_to_is_removed(grown):
    before = below(grown, "parts", "segments", "fitted", "versions")
    dry = collect(store_at(grown), 1, dry=True, grace=NOW)
    assert below(grown, "parts", "segments", "fitted", "versions") == before
    found = collect(store_at(grown), 1, grace=NOW)
    assert found == dry
    assert (found.versions, found.held, found.parts, found.segments) == ((1, 2), (), 2, 2)
    assert numbers(store_at(grown)) == [3]
    assert folders(grown) == {"c"}
    assert not below(grown, "fitted")
    checked = verify(store_at(grown))
    assert (checked.problems, checked.notes) == ((), ())
    assert Snapshot(store_at(grown)).ids.to_pylist() == ["c/000.jpg", "c/001.jpg"]
    assert collect(store_at(grown), 1, grace=NOW) == Collected((), (), 0, 0, 0)


def test_what_was_replaced_a_short_while_ago_stays(grown):
    found = collect(store_at(grown), 1)
    assert (found.versions, found.recent, found.bytes) == ((), (1, 2), 0)
    assert "a short while ago" in found.as_text()
    assert numbers(store_at(grown)) == [1, 2, 3]


def test_a_version_that_another_machine_reads_stays_until_its_lease_ends(grown, machine, monkeypatch):
    machine("reader")
    reader = Snapshot(store_at(grown), 1)
    machine("here")
    found = collect(store_at(grown), 1, grace=NOW)
    assert (found.versions, found.held) == ((2,), (1,))
    machine("reader")
    reader.check()
    machine("here")
    monkeypatch.setattr(object_leases, "VALID", timedelta(seconds=-1))
    assert collect(store_at(grown), 1, grace=NOW).versions == (1,)
    assert not below(grown, "leases")


def test_a_version_that_is_read_here_stays_while_it_is(grown):
    reader = Snapshot(store_at(grown), 1)
    assert collect(store_at(grown), 1, grace=NOW).held == (1,)
    del reader
    assert collect(store_at(grown), 1, grace=NOW).versions == (1,)
    with pytest.raises(IndexMismatch, match="no version 1; there are: 3"):
        Snapshot(store_at(grown), 1)


def test_a_lease_is_put_again_while_it_is_held_and_once_for_many(grown, machine, monkeypatch):
    machine("reader")
    puts, again = [], threading.Event()
    real = Bucket.put_if_allowed

    def put(self, key, data):
        puts.append(key)
        if len(puts) == 5:
            again.set()
        return real(self, key, data)

    monkeypatch.setattr(Bucket, "put_if_allowed", put)
    readers = [Snapshot(store_at(grown), 1) for _ in range(3)]
    assert len(puts) == 1
    monkeypatch.setattr(object_leases, "RENEWED", 0.01)
    readers.append(Snapshot(store_at(grown), 2))
    assert again.wait(60)
    assert set(puts[1:]) == {puts[0].replace("/1.", "/2.")}


def test_who_may_not_write_reads_all_the_same(grown, machine, monkeypatch):
    machine("reader")
    put = obstore.put

    def refused(store, key, *arguments, **more):
        if key.startswith("leases"):
            raise PermissionDeniedError("403")
        return put(store, key, *arguments, **more)

    monkeypatch.setattr(obstore, "put", refused)
    assert len(Snapshot(store_at(grown), 1)) == 7
    assert not below(grown, "leases")


def test_a_reader_that_comes_while_its_version_leaves_is_waited_for(grown, machine, monkeypatch):
    """It had seen the version there, and said so after gc had looked for the first time."""
    import crater_ray.index.gc as module

    real, held = module._leave, []

    def leave(store, number):
        machine(f"reader of {number}")
        held.append(Snapshot(store_at(grown), number))
        machine("here")
        real(store, number)

    monkeypatch.setattr(module, "_leave", leave)
    machine("here")
    found = collect(store_at(grown), 1, grace=NOW)
    assert (found.versions, found.held, found.parts) == ((), (1, 2), 0)
    for reader in held:
        reader.check()
    monkeypatch.setattr(object_leases, "VALID", timedelta(seconds=-1))
    assert collect(store_at(grown), 1, grace=NOW).versions == (1, 2)


def test_a_reader_that_comes_too_late_takes_the_current_version(grown, machine, monkeypatch):
    import crater_ray.index.snapshot as opened

    real, calls = opened.latest, []

    def overtaken(store):
        calls.append(1)
        found = opened.read(store, 2) if len(calls) == 1 else real(store)
        machine("other")
        collect(store_at(grown), 1, grace=NOW)
        machine("here")
        return found

    monkeypatch.setattr(opened, "latest", overtaken)
    assert Snapshot(store_at(grown)).version.number == 3
    assert len(calls) == 2


def test_writers_and_gc_of_two_machines_keep_off_each_other(grown, machine, monkeypatch):
    machine("there")
    with DriverLock(store_at(grown)):
        machine("here")
        with pytest.raises(IndexMismatch, match=r"another driver \(pid .*; wait for it"):
            collect(store_at(grown), 1, grace=NOW)
        with DriverLock(store_at(grown)):  # two writers may
            pass
    assert numbers(store_at(grown)) == [1, 2, 3]
    monkeypatch.setattr(object_leases.ObjectLeases, "_live", lambda self: iter([("gc", "leases/gc.x")]))
    with pytest.raises(IndexMismatch, match=r"`crater-ray gc` works on .*; run this again when it is done"):
        DriverLock(store_at(grown)).__enter__()
    monkeypatch.undo()
    with DriverLock(store_at(grown)):
        pass
    assert not {key for key in below(grown, "leases") if "writer" in key or "gc" in key}


def test_a_part_that_was_collected_elsewhere_is_made_again_and_read_everywhere(grown, config, make, machine):
    """A machine that has copies of what has gone takes neither the record nor the bytes of it."""
    machine("other")
    reader = Snapshot(store_at(grown), 1)
    reader.download()
    entry = reader.parts[0].entry
    before = (store_at(grown).local / "parts" / entry.folder / PART).read_bytes()
    del reader
    Bucket(told(grown)).remove(below(grown, "leases"))
    machine("here")
    assert collect(store_at(grown), 1, grace=NOW).parts == 2
    machine("other")
    assert done(store_at(grown), entry.name, entry.digest) is None
    machine("here")
    assert make.part(grown, config, "a", make.items("a", 3)) == entry
    machine("other")
    assert done(store_at(grown), entry.name, entry.digest) == entry
    place = store_at(grown).local / "parts" / entry.folder
    assert (place / PART).read_bytes() != before  # another attempt
    assert [path.name for path in place.iterdir()] == [PART]


def test_parts_that_no_version_listed_stay_and_old_unfinished_uploads_go(grown, config, make):
    make.part(grown, config, "unfinished", make.items("unfinished", 2))
    here = Bucket(told(grown))
    here.put("parts/d.0123/4567/codes.bin", b"half")
    assert collect(store_at(grown), 3).uploads == 0  # it may still be on its way
    found = collect(store_at(grown), 3, grace=NOW)
    assert (found.versions, found.uploads, found.bytes) == ((), 1, 4)
    assert "1 unfinished uploads, 4 bytes" in found.as_text()
    assert folders(grown) == {"a", "b", "c", "unfinished"}


def test_a_call_that_was_killed_is_ended_by_the_next(grown, monkeypatch):
    class Killed(BaseException):
        pass

    for after in range(40):
        calls = iter(range(after))

        def counted(real, calls=calls):
            def call(*arguments, **more):
                if next(calls, None) is None:
                    raise Killed
                return real(*arguments, **more)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(Bucket, "put", counted(Bucket.put))
            patch.setattr(Bucket, "remove", counted(Bucket.remove))
            try:
                collect(store_at(grown), 1, grace=NOW)
            except Killed:
                assert len(Snapshot(store_at(grown))) == 2
                continue
        break
    assert after > 10
    assert numbers(store_at(grown)) == [3]
    assert folders(grown) == {"c"}
    assert verify(store_at(grown)).problems == ()
    assert not {key for key in below(grown, "versions") if key.endswith(".gone")}
    write_whole(store_at(grown).local / "x", b"")  # its copies can still be written
