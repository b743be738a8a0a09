"""Copies take no more room than they may; least recently used ones go first, never what is open."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest

from crater_ray.errors import ConfigError
from crater_ray.index import cache_size as module
from crater_ray.index.cache_size import SIZE, cache_size
from crater_ray.index.lock import DriverLock
from crater_ray.index.snapshot import Snapshot
from crater_ray.index.store import store_at
from crater_ray.index.versions import publish


@pytest.mark.parametrize(
    ("told", "bytes"),
    [
        ("", None),
        ("1000", 1000),
        ("500 B", 500),
        ("1.5kb", 1500),
        ("200GB", 200 * 10**9),
        ("2 TB", 2 * 10**12),
    ],
)
def test_a_size_is_written_as_people_do(monkeypatch, told, bytes):
    monkeypatch.setenv(SIZE, told)
    assert cache_size() == bytes


def test_another_size_is_refused(monkeypatch):
    for told in ("much", "-1", "3 GiB"):
        monkeypatch.setenv(SIZE, told)
        with pytest.raises(ConfigError, match=f"{SIZE} is '{told}'; write it as 500MB"):
            cache_size()


@pytest.fixture
def three(place, config, make, monkeypatch, tmp_path):
    """Versions 1, 2 and 3 hold part a, b and c alone, of one size; and this is a machine without copies."""
    first = make.index(place, config, {"a": 20}, faiss=False)
    store = store_at(place)
    for number, name in ((2, "b"), (3, "c")):
        part = make.part(place, config, name, make.items(name, 20))
        publish(store, replace(first, number=number, parent=number - 1, parts=(part,), segments=()))
    monkeypatch.setenv("CRATER_RAY_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(module, "_JUST_USED", -1.0)
    monkeypatch.setattr(module, "_BELIEVED", 0.0)
    size = sum(told.bytes for told in Snapshot(store, 1).parts[0].record.files.values())
    monkeypatch.setenv(SIZE, str(int(2.5 * size)))
    return place


def used(place, number, ago=0.0):
    """Opens a version, copies it, and lets some time pass."""
    opened = Snapshot(store_at(place), number)
    opened.download()
    for copy in opened.parts[0].copies():
        os.utime(copy.path, (time.time() - ago,) * 2)


def here(place):
    return {path.parent.name[0] for path in store_at(place).local.glob("parts/*/codes.bin")}


def test_what_was_used_longest_ago_goes_first_and_is_copied_again(three):
    used(three, 1, ago=3000)
    used(three, 2, ago=4000)
    used(three, 3)
    assert here(three) == {"a", "c"}
    used(three, 1)  # now it is c that is older
    used(three, 2)
    assert here(three) == {"a", "b"}
    assert {path.parent.name[0] for path in store_at(three).local.glob("parts/*/part.json")} == set("abc")


def test_what_is_open_stays(three):
    opened = Snapshot(store_at(three), 1)
    used(three, 1, ago=3000)
    used(three, 2, ago=2000)
    used(three, 3)
    assert here(three) == {"a", "c"}
    also = Snapshot(store_at(three), 3)
    with pytest.warns(UserWarning, match=rf"more than {SIZE} = \d+; nothing that is open is removed"):
        used(three, 2)
    assert here(three) == {"a", "b", "c"}
    assert len(opened.parts[0].codes) == len(also.parts[0].codes) == 20


def test_what_a_driver_of_this_machine_writes_and_what_was_just_used_stays(three, monkeypatch):
    used(three, 1, ago=3000)
    used(three, 2, ago=2000)
    with DriverLock(store_at(three)), pytest.warns(UserWarning, match="nothing that is open"):
        used(three, 3, ago=1000)
    assert here(three) == {"a", "b", "c"}
    monkeypatch.setattr(module, "_JUST_USED", 2500.0)
    for copy in Snapshot(store_at(three), 3).parts[0].copies():
        copy.path.unlink()
    used(three, 3)
    assert here(three) == {"b", "c"}


def test_one_look_at_every_copy_does_for_some_seconds(three, monkeypatch):
    monkeypatch.setattr(module, "_BELIEVED", 60.0)
    real, looks = module._files, []
    monkeypatch.setattr(module, "_files", lambda root: looks.append(root) or real(root))
    opened = Snapshot(store_at(three), 1)
    for copy in opened.parts[0].copies():
        opened.store.download([copy])
    assert len(looks) == 1
    assert here(three) == {"a"}
