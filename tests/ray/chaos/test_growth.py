"""Random histories of an index against a dictionary: grown, replaced, dropped, packed, collected, cut off.

The job runs in this process (that Ray runs the same is tests/ray/test_index_job.py): a power cut then comes
at an exact write, and after it nothing of that call touches the disk any more, cleaning up included.
CRATER_RAY_CHAOS_SEEDS says how many seeds to run; `make chaos` takes 20.
"""

from __future__ import annotations

import gc
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from PIL import Image

from crater_ray.config import load_job
from crater_ray.errors import IndexMismatch, ReaderError, UserError
from crater_ray.index.compacted import listing
from crater_ray.index.gc import collect
from crater_ray.index.snapshot import Snapshot
from crater_ray.index.store import store_at
from crater_ray.index.verify import verify
from crater_ray.index.versions import latest, numbers
from crater_ray.jobs import index as jobs_index
from crater_ray.jobs.change import drop
from crater_ray.jobs.compact import compact

SEEDS = int(os.environ.get("CRATER_RAY_CHAOS_SEEDS", "1"))
EXAMPLES, STEPS = 8, 12  # of a seed
SOURCES = ("first", "second")
NAMES = ("p0", "p1", "p2", "p3", "p4")
WRITES = ("rename", "replace", "link", "unlink", "fsync", "mkdir", "rmdir")  # of os: what a cut comes before

Items = tuple[tuple[str, int], ...]  # (id, pattern)
Model = dict[str, tuple[str, Items]]  # part -> (source, items)


class PowerCut(BaseException):
    """The machine is gone: no handler below may do anything about it."""


@contextmanager
def power(writes: int) -> Iterator[None]:
    """Goes off before write number `writes` to the disk, and stays off."""
    left = [writes]

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise PowerCut
            return real(*arguments, **more)

        return call

    patches = [patch.object(os, name, counted(getattr(os, name))) for name in WRITES]
    patches.append(patch.object(shutil, "rmtree", counted(shutil.rmtree)))
    for one in patches:
        one.start()
    try:
        yield
    finally:
        for one in patches:
            one.stop()


def expected_vector(pattern: int) -> Any:
    """(D,) the mean patch token of a picture, of unit length, computed apart from the job."""
    from crater_ray_rig.disks import draw

    from crater_ray.testing import FakeBackbone

    backbone = FakeBackbone()
    picture = np.array(Image.open(io.BytesIO(draw(pattern))).convert("RGB"))
    mean = backbone(backbone.preprocess(picture)[None]).patches[0].numpy().mean(0)
    return mean / np.linalg.norm(mean)


PATTERNS = range(6)
part_items = st.lists(st.sampled_from(PATTERNS), max_size=4)
lists = st.dictionaries(st.sampled_from(NAMES), part_items, min_size=1, max_size=4)
few = st.lists(
    st.integers(0, 5), max_size=2
)  # which of the names there are; 5: one that is not, or a pattern
some = st.lists(st.integers(0, 5), min_size=1, max_size=2)
rarely = st.sampled_from(
    [None, None, None, None, None, *NAMES[:2]]
)  # a part whose first id others may have too
cuts = st.one_of(st.none(), st.integers(0, 60))  # the write that the power goes off before


class Growth(RuleBasedStateMachine):
    vectors: dict[int, Any]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="growth"))
        self.root = self.folder / "index"
        self.sources: dict[str, dict[str, Items]] = {source: {} for source in SOURCES}
        self.model: Model | None = None  # None: no version yet
        self.readers: list[tuple[Snapshot, Model]] = []
        for source in SOURCES:
            self._job(source).write_text(
                f'out = "index"\n[reader]\nname = "listed"\npath = "{source}.json"\n'
                '[backbone]\nname = "fake"\nprecision = "fp32"\nbatch = 4\n'
                '[shortlist]\nname = "mean"\n[rerank]\nname = "instance_tokens"\nk = 4\ncodec = "int8"\n'
                "[cluster]\nthreads = 1\ndecoders = 1\n"
            )
            self._write(source)

    def teardown(self) -> None:
        for reader, model in self.readers:
            self._same(reader, model)
        self.readers.clear()
        self._clean_build()
        shutil.rmtree(self.folder)

    def _job(self, source: str) -> Path:
        return self.folder / f"{source}.toml"

    def _write(self, source: str) -> None:
        (self.folder / f"{source}.json").write_text(json.dumps(self.sources[source]))

    @initialize(first=lists, second=lists)
    def begin(self, first: dict[str, list[int]], second: dict[str, list[int]]) -> None:
        for source, parts in zip(SOURCES, (first, second), strict=True):
            self.list_anew(source, parts, None)
        self.index(SOURCES[0], None)

    # what the world does

    @rule(source=st.sampled_from(SOURCES), parts=lists, shared=rarely)
    def list_anew(self, source: str, parts: dict[str, list[int]], shared: str | None) -> None:
        """Another catalogue. An id that two parts share makes them clash."""
        self.sources[source] = {
            name: tuple(
                ("shared" if name == shared and number == 0 else f"{name}/{number}", pattern)
                for number, pattern in enumerate(patterns)
            )
            for name, patterns in parts.items()
        }
        self._write(source)

    # what is asked of the index; each may be cut off, and is then asked again

    @rule(source=st.sampled_from(SOURCES), cut=cuts)
    def index(self, source: str, cut: int | None) -> None:
        parts = self.sources[source]
        new = {name: (source, items) for name, items in parts.items()} if _unique(parts) else None
        self._ask(lambda: self._run(source), new, cut, ReaderError)

    @rule(
        source=st.sampled_from(SOURCES),
        mode=st.sampled_from(["add", "replace", "replace"]),
        which=few,
        leave=few,
        cut=cuts,
    )
    def grow(self, source: str, mode: str, which: list[int], leave: list[int], cut: int | None) -> None:
        only = _named(which, self.sources[source], "nowhere")
        gone = _named(leave, self.model or {}, "p[0-2]") if len(leave) == 1 else []
        new = self._grown(source, mode, set(only), gone)
        self._ask(lambda: self._run(source, mode=mode, parts=only, drop=gone), new, cut, ReaderError)

    @rule(leave=some, cut=cuts)
    def leave(self, leave: list[int], cut: int | None) -> None:
        gone = _named(leave, self.model or {}, "p[0-2]")
        new = None if self.model is None else _without(self.model, gone)
        self._ask(lambda: drop(store_at(self.root), gone), new or None, cut, UserError)

    @rule(rows=st.integers(1, 12), segments=st.integers(1, 3), cut=cuts)
    def pack(self, rows: int, segments: int, cut: int | None) -> None:
        self._ask(
            lambda: compact(store_at(self.root), rows=rows, segments=segments), self.model, cut, IndexMismatch
        )

    @rule(keep=st.integers(1, 2), cut=cuts)
    def collect(self, keep: int, cut: int | None) -> None:
        there = self.root / "index.json"
        new = self.model if there.exists() else None
        before = numbers(store_at(self.root))
        gc.collect()  # readers of ours that only a traceback still holds
        self._ask(
            lambda: collect(store_at(self.root), keep), new, cut, IndexMismatch, versionless=there.exists()
        )
        read = {reader.version.number for reader, _ in self.readers}
        assert set(numbers(store_at(self.root))) == set(before[-keep:]) | read & set(before)

    # who reads it

    @rule()
    def open(self) -> None:
        if self.model is not None and len(self.readers) < 3:
            self.readers.append((Snapshot(store_at(self.root)), self.model))

    @rule(which=st.integers(0, 2))
    def close(self, which: int) -> None:
        if which < len(self.readers):
            reader, model = self.readers.pop(which)
            reader.check()  # none of its files has gone or changed
            self._same(reader, model)

    @rule(which=st.integers(0, 20))
    def search(self, which: int) -> None:
        from crater_ray.retrieve import Index

        items = _items(self.model or {})
        if not items:
            return
        index, (id, _) = Index(self.root, threads=1), items[which % len(items)]
        found = index.search(id=id, top=len(items), mode="shortlist", candidates=len(items))
        exact = index.search(id=id, top=len(items), mode="exact")
        assert found == exact
        assert {hit.id for hit in exact} == {other for other, _ in items} - {id}

    # what always holds

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        if self.model is None:
            assert not self.root.exists() or latest(store_at(self.root)) is None
            return
        self._same(Snapshot(store_at(self.root)), self.model)

    def _same(self, snapshot: Snapshot, model: Model) -> None:
        assert held(snapshot) == model
        if items := _items(model):
            wanted = np.stack([self.vectors[pattern] for _, pattern in items])
            rows = snapshot.rows([id for id, _ in items])
            np.testing.assert_allclose(snapshot.vectors()[rows, 0], wanted, atol=2e-3)

    def _ask(
        self,
        call: Callable[[], object],
        new: Model | None,
        cut: int | None,
        refused: type[Exception],
        versionless: bool = False,
    ) -> None:
        """Calls, again where the power goes off; `new` is what is held then, None: it is refused."""
        if cut is not None:
            with power(cut), suppress(PowerCut, refused):
                call()
            if (self.root / "index.json").exists():
                assert verify(store_at(self.root)).problems == ()
            version = latest(store_at(self.root)) if self.root.exists() else None
            now = None if version is None else held(Snapshot(store_at(self.root)))
            assert now in (self.model, new) if new is not None else now == self.model
            if now != self.model:  # it was done before the power went off, or but for some tidying
                self.model = now
                return
        if new is None and not versionless:
            with pytest.raises(refused):
                call()
        else:
            call()
            self.model = new

    def _run(self, source: str, **how: Any) -> None:
        jobs_index.run(load_job(self._job(source)), quiet=True, **how)

    def _grown(self, source: str, mode: str, only: set[str], gone: list[str]) -> Model | None:
        parts = self.sources[source]
        if not parts or not only <= parts.keys():
            return None
        names = only or parts.keys()
        stay = _without(self.model or {}, gone)
        if stay is None:
            return None
        if mode == "add" and any(name in stay and stay[name][0] != source for name in names):
            return None
        new = {**stay, **{name: (source, parts[name]) for name in names}}
        return new if _unique({name: items for name, (_, items) in new.items()}) else None

    def _clean_build(self) -> None:
        """The parts of a history are those of a job that makes them all at once."""
        if not self.model:
            return
        sources = {source for source, _ in self.model.values()}
        if len(sources) > 1:
            return
        source = sources.pop()
        self.sources[source] = {name: items for name, (_, items) in self.model.items()}
        self._write(source)
        clean = self.folder / "clean"
        jobs_index.run(load_job(self._job(source), [f"out={clean}"]), quiet=True)
        assert listing(store_at(clean), latest(store_at(clean))) == listing(
            store_at(self.root), latest(store_at(self.root))
        )


def held(snapshot: Snapshot) -> Model:
    """What an index has, read from its files."""
    found: Model = {}
    for part in snapshot.parts:
        source = Path(snapshot.version.readers[part.entry.reader].options["path"]).stem
        table = part.items(["id", "pattern"])
        rows = list(zip(table["id"].to_pylist(), table["pattern"].to_pylist(), strict=True))
        for member in part.record.members or (part.entry,):
            found[member.name] = (source, tuple(rows[: member.rows]))
            del rows[: member.rows]
    return found


def _items(model: Model) -> list[tuple[str, int]]:
    return [item for _, items in model.values() for item in items]


def _named(which: list[int], names: Iterable[str], other: str) -> list[str]:
    known = sorted(names)
    return [known[number % len(known)] if number < 5 and known else other for number in which]


def _unique(parts: dict[str, Items]) -> bool:
    ids = [id for items in parts.values() for id, _ in items]
    return len(ids) == len(set(ids))


def _without(model: Model, gone: list[str]) -> Model | None:
    """None where a pattern matches nothing."""
    left = dict(model)
    for pattern in gone:
        found = [name for name in model if name == pattern or (pattern == "p[0-2]" and name <= "p2")]
        if not found:
            return None
        for name in found:
            left.pop(name, None)
    return left


@pytest.mark.fault(
    "any history of growth, packing and collection, the power cut", "the index is what a dictionary is"
)
@pytest.mark.parametrize("number", range(SEEDS))
def test_any_history_of_an_index_is_that_of_a_dictionary(here: None, number: int) -> None:
    Growth.vectors = {pattern: expected_vector(pattern) for pattern in PATTERNS}
    run_state_machine_as_test(
        seed(number)(Growth),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=False,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )
