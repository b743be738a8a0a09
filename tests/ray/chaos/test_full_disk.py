"""A real file system with no room left, at every page and every file that an index is made of."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from crater_ray.config import ClusterTable, Job
from crater_ray.errors import StorageFull
from crater_ray.index.gc import collect
from crater_ray.index.store import store_at
from crater_ray.jobs.compact import compact
from crater_ray.jobs.index import run
from crater_ray.jobs.journal import Journal
from crater_ray.request import SearchRequest
from crater_ray.retrieve import Index

STEP = 1 if int(os.environ.get("CRATER_RAY_CHAOS_SEEDS", "1")) > 1 else 5  # `make chaos` takes every page
ITEMS = 12
TABLES = {  # an index with every kind of file
    "shortlist": {"name": "whitened_mean", "dim": 4, "index": "SQfp16"},
    "rerank": {"name": "instance_tokens", "k": 4, "codec": "int8"},
    "backbone": {"batch": 4},
}


class Disk:
    """A tmpfs of a given size."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self, **limits: str) -> None:
        self.take_away()
        self.path.mkdir(exist_ok=True)
        done = self._mount("mount", "-t", "tmpfs", "-o", _options(limits), "tmpfs", str(self.path))
        if done.returncode:
            pytest.skip("mounting a tmpfs needs root")

    def limit(self, **limits: str) -> None:
        assert self._mount("mount", "-o", f"remount,{_options(limits)}", str(self.path)).returncode == 0

    def used(self) -> int:
        """Pages."""
        told = os.statvfs(self.path)
        return (told.f_blocks - told.f_bfree) * told.f_frsize // 4096

    def take_away(self) -> None:
        if self.path.is_mount():
            assert self._mount("umount", "--lazy", str(self.path)).returncode == 0

    def _mount(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(words, check=False, capture_output=True)


def _options(limits: dict[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in limits.items())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    found = Disk(tmp_path / "disk")
    yield found
    found.take_away()


@pytest.fixture
def on_disk(faulty: Callable[..., Job], disk: Disk) -> Job:
    job = faulty(items=ITEMS, per_part=6, tables=TABLES)
    cached = job.backbone.model_copy(update={"cache": disk.path / "cache"})
    return job.model_copy(update={"out": disk.path / "index", "backbone": cached})


@pytest.fixture
def clean(here: None, faulty: Callable[..., Job]) -> Path:
    job = faulty("clean", items=ITEMS, per_part=6, tables=TABLES)
    run(job, quiet=True)
    return job.out


def stage(error: StorageFull) -> str:
    """What could not be written: the message is one line and names it."""
    found = re.match(r"no room left while writing (\S+); free space and run the same command", error.message)
    assert found, error.message
    return re.sub(r"[0-9a-f]{16,}", "*", Path(found[1]).name)


@pytest.mark.fault(
    "no space left, at every page of an index", "one line that names the file; then it goes on"
)
@pytest.mark.parametrize("kind", ["size", "nr_inodes"])
def test_no_space_left_at_any_stage_of_a_job(
    kind: str,
    disk: Disk,
    on_disk: Job,
    clean: Path,
    audit: Callable[..., Index],
    same_parts: Callable[[Path, Path], None],
) -> None:
    stages: set[str] = set()
    for room in range(1, 400, STEP):
        disk.make(**{kind: str(room * 4096 if kind == "size" else room + 1)})
        try:
            run(on_disk, quiet=True)
            break  # there is room for all of it
        except StorageFull as error:
            stages.add(stage(error))
        disk.limit(**{kind: str(2**22 if kind == "size" else 10_000)})
        run(on_disk, quiet=True)
        audit(on_disk.out, ITEMS)
        same_parts(on_disk.out, clean)
    else:
        pytest.fail("400 pages are not enough for 12 images")
    wanted = ["codes.bin", "items.parquet", "vectors.npy", "part.json", "patches.bin", "tokens.json"]
    wanted += ["shortlist.faiss", "segment.json", "index.json", "1.json", "safetensors"]
    assert STEP > 1 or not {one for one in wanted if not any(one in name for name in stages)}, stages


@pytest.mark.fault(
    "no space left while an index is packed and collected", "it holds what it held; then it goes on"
)
def test_no_space_left_while_an_index_is_made_tidy(
    disk: Disk, on_disk: Job, here: None, audit: Callable[..., Index]
) -> None:
    uncached = on_disk.model_copy(update={"backbone": on_disk.backbone.model_copy(update={"cache": None})})
    disk.make(size="4m")
    run(uncached, quiet=True)
    for room in range(0, 60, STEP):
        shutil.copytree(on_disk.out, disk.path / "copy")
        disk.limit(size=str((disk.used() + room) * 4096))
        for tidy in (
            lambda: compact(store_at(disk.path / "copy")),
            lambda: collect(store_at(disk.path / "copy"), keep=1),
        ):
            with suppress(StorageFull):
                tidy()
            audit(disk.path / "copy", ITEMS)
        disk.limit(size="4m")
        compact(store_at(disk.path / "copy"))
        collect(store_at(disk.path / "copy"), keep=1)
        assert len(audit(disk.path / "copy", ITEMS).snapshot.parts) == 1
        shutil.rmtree(disk.path / "copy")


@pytest.mark.fault("no space left for the journal of a part that kills workers", "one line; then it goes on")
def test_no_space_left_for_the_journal(disk: Disk) -> None:
    disk.make(size="8192")
    (disk.path / "ballast").write_bytes(bytes(8192))
    journal = Journal(store_at(disk.path), "p0000.0123")
    with pytest.raises(StorageFull) as error:
        journal.begin("i00000")
    assert stage(error.value) == "p0000.0123.journal"
    (disk.path / "ballast").unlink()
    again = Journal(store_at(disk.path), "p0000.0123", attempt="second")
    again.begin("i00001")
    third = Journal(store_at(disk.path), "p0000.0123", attempt="third", died=["second"])
    assert (third.kills("i00000"), third.kills("i00001")) == (0, 1)
    for one in (journal, again, third):
        one.close()


@pytest.mark.ray
@pytest.mark.fault("no space left for a neighbour table", "one line, and no half table")
def test_no_space_left_for_a_neighbour_table(disk: Disk, clean: Path, ray_cluster: str) -> None:
    from crater_ray.jobs import neighbours

    request, out = SearchRequest(top=5, candidates=12), disk.path / "neighbours.parquet"
    for pages in (1, 2):  # none is left for the piece of a worker, or for the table
        disk.make(size=str(pages * 4096))
        (disk.path / "ballast").write_bytes(bytes(4096))
        with pytest.raises(StorageFull) as error:
            neighbours.run(clean, request, out, ClusterTable(), quiet=True)
        assert stage(error.value)
        assert not out.exists()
    disk.limit(size="4m")
    assert neighbours.run(clean, request, out, ClusterTable(), quiet=True).rows == ITEMS * 5
