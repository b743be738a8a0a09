"""Old versions are collected, unless somebody reads them; nothing that stays is touched."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from crater_ray.errors import IndexMismatch
from crater_ray.files import write_whole
from crater_ray.index import leases
from crater_ray.index.fitted import fitted_path, write_fitted
from crater_ray.index.gc import Collected, collect
from crater_ray.index.lock import DriverLock
from crater_ray.index.segments import ShortlistSpec, write_segment
from crater_ray.index.snapshot import Snapshot
from crater_ray.index.store import store_at
from crater_ray.index.verify import verify
from crater_ray.index.versions import numbers, publish


@pytest.fixture
def grown(tmp_path, config, make):
    """1: a, b; 2: a, b, c with a fit of its own; 3: c alone."""
    first = make.index(tmp_path, config, {"a": 3, "b": 4})
    learnt = write_fitted(store_at(tmp_path), {"axes": np.eye(2)})
    c = make.part(tmp_path, config, "c", make.items("c", 2))
    plain = ShortlistSpec("Flat", seed=0, m=1, dim=3)
    both = (*first.segments, write_segment(store_at(tmp_path), (c,), replace(plain, fitted=learnt)))
    publish(store_at(tmp_path), replace(first, number=2, parent=1, parts=(*first.parts, c), segments=both))
    alone = write_segment(store_at(tmp_path), (c,), plain)
    publish(store_at(tmp_path), replace(first, number=3, parent=2, parts=(c,), segments=(alone,)))
    return tmp_path


def there(root):
    return sorted(
        str(path.relative_to(root))
        for folder in ("fitted", "parts", "segments")
        for path in (root / folder).iterdir()
    )


def test_what_only_old_versions_refer_to_is_removed(grown):
    before = there(grown)
    assert len(before) == 1 + 3 + 3
    dry = collect(store_at(grown), 1, dry=True)
    assert there(grown) == before
    assert numbers(store_at(grown)) == [1, 2, 3]
    found = collect(store_at(grown), 1)
    assert found == dry
    assert (found.versions, found.held, found.parts, found.segments) == ((1, 2), (), 2, 2)
    assert found.bytes > 0
    assert numbers(store_at(grown)) == [3]
    assert [name.split(".")[0] for name in there(grown)] == [
        "parts/c",
        f"segments/{Snapshot(store_at(grown)).version.segments[0]}",
    ]
    checked = verify(store_at(grown))
    assert (checked.problems, checked.notes) == ((), ())
    assert Snapshot(store_at(grown)).ids.to_pylist() == ["c/000.jpg", "c/001.jpg"]
    assert collect(store_at(grown), 1) == Collected((), (), 0, 0, 0)


def test_a_version_that_is_read_stays_with_all_it_has(grown):
    reader = Snapshot(store_at(grown), 1)
    found = collect(store_at(grown), 1)
    assert (found.versions, found.held) == ((2,), (1,))
    reader.check()
    assert len(reader.ids) == 7
    assert verify(store_at(grown)).problems == ()  # its parent was collected, not lost
    del reader
    assert collect(store_at(grown), 1).versions == (1,)
    with pytest.raises(IndexMismatch, match="no version 1; there are: 3"):
        Snapshot(store_at(grown), 1)


def test_a_reader_in_another_process_holds_its_version_until_it_dies(grown):
    code = (
        "import sys; from crater_ray.index.snapshot import Snapshot; "
        "from crater_ray.index.store import store_at; "
        "s = Snapshot(store_at(sys.argv[1]), 2); "
        "print('open', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(grown)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"open\n"
    assert collect(store_at(grown), 1).held == (2,)
    other.kill()
    other.communicate()
    assert collect(store_at(grown), 1).versions == (2,)


def test_parts_that_no_version_has_listed_yet_stay(grown, config, make):
    make.part(grown, config, "unfinished", make.items("unfinished", 2))
    collect(store_at(grown), 1)
    assert any(name.startswith("parts/unfinished") for name in there(grown))


def test_a_call_that_was_killed_is_ended_by_the_next(grown, monkeypatch):
    class Killed(BaseException):
        pass

    whole = collect(store_at(grown), 1, dry=True)
    for after in range(20):
        calls = iter(range(after))

        def counted(real, calls=calls):
            def call(*arguments, **more):
                if next(calls, None) is None:
                    raise Killed
                return real(*arguments, **more)

            return call

        with monkeypatch.context() as patch:
            patch.setattr("os.rename", counted(os.rename))
            patch.setattr("os.unlink", counted(os.unlink))
            patch.setattr("shutil.rmtree", counted(__import__("shutil").rmtree))
            try:
                collect(store_at(grown), 1)
            except Killed:
                assert verify(store_at(grown)).problems == ()
                continue
        break
    assert after > 5
    assert numbers(store_at(grown)) == [3]
    assert len(there(grown)) == 2
    assert not list((grown / "versions").glob("*.gone"))
    assert whole.parts == 2


def test_where_the_file_system_has_no_locks_only_force_collects(grown, monkeypatch):
    real = leases.fcntl.flock

    def unsupported(handle, how):
        if how & leases.fcntl.LOCK_EX and os.readlink(f"/proc/self/fd/{handle}").endswith(".json"):
            raise OSError(95, "not supported")
        real(handle, how)

    monkeypatch.setattr(leases.fcntl, "flock", unsupported)
    with pytest.raises(IndexMismatch, match=r"without locks.*--force"):
        collect(store_at(grown), 1)
    assert numbers(store_at(grown)) == [1, 2, 3]
    assert collect(store_at(grown), 1, force=True).versions == (1, 2)


def test_nothing_is_collected_beside_a_job_that_writes(grown):
    with DriverLock(store_at(grown)), pytest.raises(IndexMismatch, match="another driver"):
        collect(store_at(grown), 1)
    with pytest.raises(ValueError, match="keep is 0"):
        collect(store_at(grown), 0)


def test_a_reader_that_finds_its_version_gone_takes_the_one_in_force(grown, monkeypatch):
    import crater_ray.index.snapshot as opened

    real, calls = opened.latest, []

    def late(root):
        calls.append(1)
        return opened.read(root, 2) if len(calls) == 1 and not collect(root, 2).held else real(root)

    def overtaken(root):
        found = late(root)
        collect(root, 1)
        return found

    monkeypatch.setattr(opened, "latest", overtaken)
    assert Snapshot(store_at(grown)).version.number == 3
    assert len(calls) == 2


def test_the_fit_of_the_config_stays(tmp_path, config, make):
    sha = write_fitted(store_at(tmp_path), {"words": np.arange(12.0)})
    config = replace(config, fits={"shortlist": sha})
    version = make.index(tmp_path, config, {"a": 3})
    make.add(tmp_path, version, make.part(tmp_path, config, "b", make.items("b", 2)))
    collect(store_at(tmp_path), 1)
    assert fitted_path(store_at(tmp_path), sha).exists()


def test_a_version_that_was_lost_and_not_collected_is_a_problem(grown):
    collect(store_at(grown), 2)
    write_whole(grown / "versions" / "2.json.away", (grown / "versions" / "2.json").read_bytes())
    (grown / "versions" / "2.json").unlink()
    assert [problem.reason for problem in verify(store_at(grown)).problems] == [
        "its parent, version 2, is missing"
    ]
