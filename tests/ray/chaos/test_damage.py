"""Files that change under an index: a bit of each flipped, parts copied half way, clocks that go back."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crater_ray.config import Job
from crater_ray.errors import CraterRayError, DamagedIndex
from crater_ray.index.gc import collect
from crater_ray.index.store import store_at
from crater_ray.index.verify import verify
from crater_ray.jobs.compact import compact
from crater_ray.jobs.index import run
from crater_ray.retrieve import Index

SEEDS = int(os.environ.get("CRATER_RAY_CHAOS_SEEDS", "1"))
ITEMS = 12
TABLES: dict[str, Any] = {
    "shortlist": {"name": "whitened_mean", "dim": 4, "index": "SQfp16"},
    "rerank": {"name": "instance_tokens", "k": 4, "codec": "int8"},
    "backbone": {"batch": 4, "cache": "cache"},
    "queries": {"name": "faulty", "items": 6},
}
Audit = Callable[..., Index]


@pytest.fixture
def job(here: None, faulty: Callable[..., Job]) -> Job:
    return faulty(items=ITEMS, per_part=3, tables=TABLES)


@pytest.fixture
def grown(job: Job, faulty: Callable[..., Job]) -> Job:
    """An index with every kind of file: packs, several versions, what was collected, queries."""
    run(faulty("small", items=6, per_part=3, tables=TABLES).model_copy(update={"out": job.out}), quiet=True)
    compact(store_at(job.out))
    run(job, quiet=True)
    run(job, quiet=True, side="query")
    collect(store_at(job.out), keep=1)
    return job


def files(root: Path) -> Iterator[Path]:
    """Those that hold something; the lock only says who was last."""
    yield from (path for path in sorted(root.rglob("*")) if path.is_file() and path.name != ".lock")


def flip(path: Path, chance: random.Random) -> bytes:
    """One bit of a file; what it was before."""
    data = path.read_bytes()
    at = chance.randrange(len(data))
    path.write_bytes(data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :])
    return data


@pytest.mark.fault("a bit flipped in any file of an index", "verify names the file")
@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_bit_flipped_in_any_file_of_an_index(grown: Job, audit: Audit, seed: int) -> None:
    chance, kinds = random.Random(seed), set()
    queries = grown.out / "queries"
    for path in files(grown.out):
        inside = queries in path.parents
        root = queries if inside else grown.out
        before = flip(path, chance)
        named = {problem.path for problem in verify(store_at(root)).problems}
        assert str(path.relative_to(root)) in named, path
        path.write_bytes(before)
        kinds.add(path.name if path.parent.name not in ("fitted", "versions") else path.parent.name)
    assert kinds >= {"index.json", "fitted", "versions", "segment.json", "shortlist.faiss", "part.json"}
    assert kinds >= {"items.parquet", "vectors.npy", "codes.bin", "scales.npy"}
    audit(grown.out, ITEMS)


@pytest.mark.fault("a bit flipped in a part or segment", "deleted as verify says, it is made again, the same")
@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_is_damaged_is_made_again(
    job: Job, audit: Audit, same_parts: Callable[[Path, Path], None], seed: int
) -> None:
    chance = random.Random(seed)
    run(job, quiet=True)
    shutil.copytree(job.out, job.out.with_name("before"))
    for _ in range(4):
        made = [path for path in files(job.out) if path.parent.parent.name in ("parts", "segments")]
        path = chance.choice(made)
        flip(path, chance)
        (problem,) = verify(store_at(job.out)).problems
        assert "delete the" in problem.reason or path.name == "part.json" or path.name == "segment.json"
        shutil.rmtree(path.parent)
        run(job, quiet=True)
        audit(job.out, ITEMS)
        same_parts(job.out, job.out.with_name("before"))


@pytest.mark.fault(
    "a bit flipped in cached tokens", "the job ends and names the file, or encodes the part again"
)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_bit_flipped_in_cached_tokens(
    job: Job, audit: Audit, same_parts: Callable[[Path, Path], None], seed: int
) -> None:
    chance = random.Random(seed)
    run(job, quiet=True)
    cache = job.backbone.cache
    assert cache is not None
    for path in files(cache):
        flip(path, chance)
        again = job.model_copy(update={"out": job.out.with_name("again")})
        try:
            run(again, quiet=True)
            assert path.name == "tokens.json"  # it names the others: without it there is nothing in the cache
        except DamagedIndex as error:
            assert str(path) in error.message  # noqa: PT017 - either may happen
            shutil.rmtree(path.parent)
            run(again, quiet=True)
        audit(again.out, ITEMS)
        same_parts(again.out, job.out)
        shutil.rmtree(again.out)


@pytest.mark.fault(
    "a bit flipped in what is read first", "every command ends with one line that names the file"
)
@pytest.mark.parametrize("name", ["index.json", "versions/1.json"])
def test_a_bit_flipped_in_what_is_read_first(job: Job, name: str) -> None:
    run(job, quiet=True)
    flip(job.out / name, random.Random(0))
    for call in (lambda: run(job, quiet=True), lambda: Index(job.out), lambda: compact(store_at(job.out))):
        with pytest.raises(CraterRayError, match=rf"{name}.*(checksum|JSON|newer)"):
            call()


@pytest.mark.fault("a part copied half way", "it counts as absent and is made again, the same")
def test_a_part_copied_half_way(
    job: Job, tmp_path: Path, audit: Audit, same_parts: Callable[[Path, Path], None]
) -> None:
    run(job, quiet=True)
    whole = sorted((job.out / "parts").iterdir())[1]
    names = sorted(path.name for path in whole.iterdir())
    copied = job.model_copy(update={"out": tmp_path / "copied"})
    for count in range(len(names) + 1):
        for share in (0.0, 0.5):
            shutil.copytree(job.out, copied.out)
            part = copied.out / "parts" / whole.name
            for number, name in enumerate(names):  # as cp -r goes: whole files, a short one, no more
                if number > count or (number == count and not share):
                    (part / name).unlink()
                elif number == count:
                    os.truncate(part / name, int(share * (whole / name).stat().st_size))
            run(copied, quiet=True)
            audit(copied.out, ITEMS)
            same_parts(copied.out, job.out)
            shutil.rmtree(copied.out)


@pytest.mark.fault(
    "a part copied with holes where a file should be", "verify names it; deleted, it is made again"
)
def test_a_part_copied_with_holes(job: Job, audit: Audit, same_parts: Callable[[Path, Path], None]) -> None:
    run(job, quiet=True)
    shutil.copytree(job.out, job.out.with_name("before"))
    part = min((job.out / "parts").iterdir())
    for path in sorted(part.iterdir()):
        size = path.stat().st_size
        os.truncate(path, 0)
        os.truncate(path, size)
    assert any(
        problem.path.startswith(f"parts/{part.name}") for problem in verify(store_at(job.out)).problems
    )
    shutil.rmtree(part)
    run(job, quiet=True)
    audit(job.out, ITEMS)
    same_parts(job.out, job.out.with_name("before"))


@pytest.mark.fault(
    "a clock that goes backwards", "nothing is told apart by time: the same bytes and versions"
)
def test_a_clock_that_goes_backwards(
    job: Job,
    audit: Audit,
    same_parts: Callable[[Path, Path], None],
    monkeypatch: pytest.MonkeyPatch,
    faulty: Callable[..., Job],
) -> None:
    run(job, quiet=True)
    now = [time.time()]

    def back() -> float:
        now[0] -= 86_400.0
        return now[0]

    monkeypatch.setattr(time, "time", back)
    monkeypatch.setattr(time, "time_ns", lambda: int(back() * 1e9))
    late = job.model_copy(update={"out": job.out.with_name("late")})
    small = faulty("small", items=6, per_part=3, tables=TABLES)
    for step in (
        lambda: run(small.model_copy(update={"out": late.out}), quiet=True),
        lambda: run(late, quiet=True),
        lambda: compact(store_at(late.out)),
        lambda: run(late, quiet=True),
        lambda: collect(store_at(late.out), keep=1),
    ):
        step()
        for path in files(late.out):
            os.utime(path, (4e9, 4e9) if path.suffix == ".json" else (0, 0))
    assert audit(late.out, ITEMS).snapshot.version.number == 3
    fresh = late.model_copy(update={"out": job.out.with_name("fresh")})
    run(fresh, quiet=True)
    same_parts(fresh.out, job.out)
