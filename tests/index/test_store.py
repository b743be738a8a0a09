from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crater_ray import files
from crater_ray.errors import DamagedIndex, IndexMismatch, StorageFull
from crater_ray.index import checksummed_json
from crater_ray.index.config import create_or_check
from crater_ray.index.fitted import fitted_path, read_fitted, write_fitted
from crater_ray.index.lock import DriverLock
from crater_ray.index.segments import ShortlistSpec, write_segment
from crater_ray.index.store import store_at
from crater_ray.index.token_cache import TokenCache
from crater_ray.index.verify import verify
from crater_ray.index.versions import Version, VersionTaken, publish
from crater_ray.index.writer import PartWriter
from crater_ray.types import TokenShape

KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import numpy as np, pyarrow as pa
from crater_ray.index import store as stores
from crater_ray.index.config import read_config
from crater_ray.index.store import store_at
from crater_ray.index.writer import PartWriter
from crater_ray.types import Item
root = stores.store_at({root!r})
if {when!r} == "before the rename":
    stores.move_folder = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
part = PartWriter(root, "a", "d" * 32, read_config(root), pa.schema([]))
for i in range(3):
    part.append([Item(f"{{i}}", "g", "u")], np.ones((1, 1, 3), np.float16), np.ones((1, 8), np.uint8),
                np.ones((1, 1), np.float32))
if {when!r} == "between batches":
    os.kill(os.getpid(), signal.SIGKILL)
part.commit()
"""
HOLD = """
import sys
from pathlib import Path
from crater_ray.index.lock import DriverLock
from crater_ray.index.store import store_at
with DriverLock(store_at(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("when", ["between batches", "before the rename"])
def test_a_kill_leaves_its_attempt_in_tmp_and_nothing_else(tmp_path, config, when):
    create_or_check(store_at(tmp_path), config)
    code = KILLED.format(tests="", root=str(tmp_path), when=when)
    ended = subprocess.run([sys.executable, "-c", code], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "parts") == ["index.json", "tmp"]
    assert len(list((tmp_path / "tmp").iterdir())) == 1
    assert not (tmp_path / "parts").exists() or not list((tmp_path / "parts").iterdir())


def hold(root: Path) -> subprocess.Popen[str]:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    return other


def test_a_second_driver_is_told_who_is_first(tmp_path):
    other = hold(tmp_path / "index")
    try:
        message = rf"another driver \(pid {other.pid}, host .+\) writes .*index; wait"
        with pytest.raises(IndexMismatch, match=message), DriverLock(store_at(tmp_path / "index")):
            pass
    finally:
        other.kill()  # SIGKILL: the kernel frees the lock
        other.communicate()
    with DriverLock(store_at(tmp_path / "index")):
        told = json.loads((tmp_path / "index" / ".lock").read_text())
        assert told["pid"] == os.getpid()
    with DriverLock(store_at(tmp_path / "index")):
        pass


def test_the_lock_is_not_put_into_a_foreign_folder(tmp_path):
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(IndexMismatch, match="is not an index"), DriverLock(store_at(tmp_path)):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(IndexMismatch, match=r"cannot be written \(Not a directory\); name another `out`"),
        DriverLock(store_at(tmp_path / "file" / "index")),
    ):
        pass


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_keeps_what_is_done(small_disk, config, make):
    root = small_disk / "index"
    config = replace(config, record_bytes=40_000)
    create_or_check(store_at(root), config)
    first = make.part(root, config, "a", make.items("a", 2))
    message = r"no room left while writing .*codes.bin; free space and run .* again: what is done is kept"
    with pytest.raises(StorageFull, match=message):
        make.part(root, config, "b", make.items("b", 9), batch=1)
    assert not list((root / "tmp").iterdir())
    version = publish(store_at(root), Version(1, 0, (first,)))
    assert version.rows == 2


@pytest.mark.parametrize("allowed", range(20))
def test_a_full_disk_at_any_write(tmp_path, config, make, monkeypatch, allowed):
    """Whichever fsync finds no room: one line, no half part, and the same command ends well after."""
    real, left = os.fsync, [allowed]

    def full(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageFull, match=r"no room left while writing .*; free space and run the same"):
        make.index(tmp_path / "index", config, {"a": 3})
    monkeypatch.setattr(files.os, "fsync", real)
    with suppress(VersionTaken):  # published, but for the last fsync
        make.index(tmp_path / "index", config, {"a": 3})
    found = verify(store_at(tmp_path / "index"))
    assert not found.problems
    assert not found.notes


def test_faiss_tells_of_a_full_disk_in_words_alone(tmp_path):
    def write(path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("Error in write: write error in x: 3 != 6 (No space left on device)")

    with pytest.raises(StorageFull, match="no room left while writing"):
        write_segment(store_at(tmp_path), (), ShortlistSpec("SQ8", seed=0, m=1, dim=3), write)
    with pytest.raises(RuntimeError, match="training"):
        write_segment(store_at(tmp_path), (), ShortlistSpec("SQ8", seed=0, m=1, dim=3), _fails)
    assert not list((tmp_path / "tmp").iterdir())
    assert not (tmp_path / "segments").exists()


def _fails(path: Path) -> None:
    raise RuntimeError("training failed")


def test_a_full_cache_says_so(small_disk):
    cache = TokenCache(small_disk / "cache")
    shape = TokenShape(64, (4, 4), 0, False)
    message = r"patches.bin.*: what is done is kept"
    with cache.writer("k", shape) as tokens, pytest.raises(StorageFull, match=message):
        tokens.append([str(i) for i in range(200)], np.zeros((200, 16, 64), np.float16))
    assert not list((small_disk / "cache" / "tmp").iterdir())


def test_write_new_has_one_winner(tmp_path):
    path = tmp_path / "versions" / "1.json"
    assert files.write_new(path, b"first")
    assert not files.write_new(path, b"second")
    assert path.read_bytes() == b"first"


def test_write_new_without_hard_links(tmp_path, monkeypatch):
    def refused(source: object, target: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", refused)
    test_write_new_has_one_winner(tmp_path)
    assert [path.name for path in (tmp_path / "versions").iterdir()] == ["1.json"]


def test_a_seal_finds_a_flipped_bit_in_any_byte(tmp_path):
    path = tmp_path / "x.json"
    nested = {"b": [1, 2.5, None], "a": True}
    data = checksummed_json.checksummed({"format": 1, "name": "Galle ☄", "rows": 12, "nested": nested})
    path.write_bytes(data)
    assert checksummed_json.read_checksummed(path, "x")["nested"] == nested
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        with pytest.raises((DamagedIndex, IndexMismatch), match=r"x.json"):
            checksummed_json.read_checksummed(path, "x")


def test_fitted_arrays_come_back(tmp_path):
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3).T, "a": np.full((), 2.5), "n": np.ones(3)}
    sha = write_fitted(store_at(tmp_path), arrays)
    assert write_fitted(store_at(tmp_path), dict(reversed(arrays.items()))) == sha
    back = read_fitted(store_at(tmp_path), sha)
    assert sorted(back) == ["a", "b", "n"]
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype
    path = fitted_path(store_at(tmp_path), sha)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(DamagedIndex, match="does not match its checksum"):
        read_fitted(store_at(tmp_path), sha)
    assert write_fitted(store_at(tmp_path), arrays) == sha
    assert len(read_fitted(store_at(tmp_path), sha)) == 3
    path.unlink()
    with pytest.raises(DamagedIndex, match="is missing"):
        read_fitted(store_at(tmp_path), sha)


def test_memory_does_not_grow_with_the_codes(tmp_path, config):
    """20,000 rows of 24 KiB are 480 MiB on the disk; writing them takes less than a tenth of that."""
    code = f"""
import resource
import numpy as np, pyarrow as pa
from pathlib import Path
from contextlib import suppress
from dataclasses import replace
from crater_ray.index.config import read_config
from crater_ray.index.store import store_at
from crater_ray.index.writer import PartWriter
from crater_ray.types import Item
root = store_at({str(tmp_path)!r})
config = read_config(root)
codes, scales = np.ones((200, config.record_bytes), np.uint8), np.ones((200, 1), np.float32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with PartWriter(root, "a", "d" * 32, config, pa.schema([])) as part:
    for first in range(0, 20_000, 200):
        items = [Item(f"{{first + i}}.jpg", "g", "u") for i in range(200)]
        part.append(items, np.ones((200, 1, 3), np.float16), codes, scales)
    assert part.commit().rows == 20_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    create_or_check(store_at(tmp_path), replace(config, record_bytes=24_576))
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    grown = int(run.stdout)
    assert grown < 48 * 1024  # KiB


def test_attempts_do_not_share_a_folder(tmp_path, config, make):
    """Two attempts never share a folder: one that is retried starts afresh."""
    one, two = (PartWriter(store_at(tmp_path), "a", "d", config, make.columns) for _ in range(2))
    with one, two:
        assert len(list((tmp_path / "tmp").iterdir())) == 2
