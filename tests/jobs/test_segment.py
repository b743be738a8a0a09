"""The shortlist over parts: what is learnt once and shared, when IVF takes over, and what stays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from crater_ray.index.checksummed_json import canonical
from crater_ray.index.config import IndexConfig, create_or_check
from crater_ray.index.fitted import fitted_path
from crater_ray.index.gc import collect
from crater_ray.index.info import info
from crater_ray.index.parts import PartEntry, part_digest
from crater_ray.index.segments import Segment, ShortlistSpec, read_segment, segment_key
from crater_ray.index.snapshot import Snapshot
from crater_ray.index.store import store_at
from crater_ray.index.verify import verify
from crater_ray.index.versions import Version, latest, publish
from crater_ray.index.writer import PartWriter
from crater_ray.jobs.change import drop
from crater_ray.jobs.compact import compact
from crater_ray.jobs.segment import How, build, learn, segments_for, shares
from crater_ray.plugins import PluginRef
from crater_ray.retrieve import Index
from crater_ray.search import shortlist
from crater_ray.search.whitening import whiten
from crater_ray.types import Item

DIM = 16
FEW = 400  # instead of 32,768


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortlist, "FEW", FEW)


def ref(kind: Any, name: str) -> PluginRef:
    return PluginRef(kind, name, {}, "crater_ray.builtin", "crater-ray", "0.1.0")


CONFIG = IndexConfig(
    side="gallery",
    backbone=ref("backbone", "timm"),
    backbone_digest="none",
    grid=(4, 4),
    shortlist=ref("aggregator", "cls"),
    shortlist_m=1,
    shortlist_dim=DIM,
    rerank=ref("aggregator", "instance_tokens"),
    k=2,
    dim=8,
    codec="int8",
    record_bytes=16,
    scales=1,
    scoring="maxsim",
    batch=8,
    precision="bf16",
    max_pixels=1000,
    seed=0,
)


def part(root: Path, name: str, rows: int) -> PartEntry:
    random = np.random.default_rng(sum(map(ord, name)))
    places = np.random.default_rng(0).standard_normal((12, DIM))
    vectors = places[random.integers(0, 12, rows)] + 0.7 * random.standard_normal((rows, DIM)) + 2
    items = [Item(f"{name}/{row}", f"{name}/{row // 2}", f"{name}/{row}") for row in range(rows)]
    with PartWriter(
        store_at(root), name, part_digest(CONFIG.digest(), items), CONFIG, pa.schema([])
    ) as writer:
        writer.append(
            items,
            vectors[:, None].astype(np.float16),
            random.integers(0, 256, (rows, 16), dtype=np.uint8),
            np.full((rows, 1), 0.01, np.float32),
        )
        return writer.commit()


def parts(root: Path, sizes: Iterable[int], first: str = "a") -> tuple[PartEntry, ...]:
    create_or_check(store_at(root), CONFIG)
    return tuple(part(root, chr(ord(first) + at), rows) for at, rows in enumerate(sizes))


def put(root: Path, entries: tuple[PartEntry, ...], factory: str = "auto") -> list[Segment]:
    """The segments of the next version."""
    parent = latest(store_at(root))
    number = parent.number + 1 if parent else 1
    entries = tuple(sorted(entries, key=lambda entry: entry.name))
    shas = segments_for(store_at(root), CONFIG, entries, parent, factory, True, build)
    publish(store_at(root), Version(number, number - 1, entries, shas, (ref("reader", "folder"),)))
    return [read_segment(store_at(root), sha) for sha in shas]


def slow(index: Index, mask: np.ndarray | None = None) -> np.ndarray:
    """(N, N) cosines of whitened vectors."""
    learnt = index.snapshot.fitted(index.snapshot.segments[0])
    assert learnt is not None
    rows = whiten(index.vectors(), learnt)[:, 0].astype(np.float64)
    scores = rows @ rows.T
    if mask is not None:
        scores[:, ~mask] = -np.inf
    return scores


def found(index: Index, s: int = 100) -> float:
    """The share of the ten best of brute force that the shortlist holds among `s`, asked by every view."""
    rows, _ = index.local.shard.shortlist(index.vectors(), s)
    best = np.argsort(-slow(index), 1)[:, :10]
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(best, rows, strict=True)]))


def test_keys_of_segments_that_are_there_stay(tmp_path: Path) -> None:
    entries = parts(tmp_path, [3, 4])
    plain = [[[entry.name, entry.digest, entry.rows] for entry in entries], "Flat", 0, 1, DIM]

    def key(**how: Any) -> str:
        return segment_key(entries, ShortlistSpec("Flat", seed=0, m=1, dim=DIM, **how))

    assert key() == xxhash.xxh3_128_hexdigest(canonical(plain))
    assert key(fitted="f") == xxhash.xxh3_128_hexdigest(canonical([*plain, "f"]))
    keys = [
        key(),
        key(fitted="f"),
        key(quantizer="f"),
        key(fitted="f", quantizer="f"),
        key(fitted="f", quantizer="f", auto=True),
        key(auto=True),
    ]
    assert len(set(keys)) == 6


def test_few_vectors_are_all_compared_and_nothing_is_said_of_it(tmp_path: Path) -> None:
    segments = put(tmp_path, parts(tmp_path, [150, 100]))
    assert [(s.factory, s.file, s.quantizer, s.tuning, s.asked) for s in segments] == [
        ("Flat", None, None, None, "Flat")
    ]
    plain = (tmp_path / "segments" / segments[0].sha / "segment.json").read_text()
    assert not any(word in plain for word in ("quantizer", "auto", "tuning"))
    assert (
        put(tmp_path, latest(store_at(tmp_path)).parts, "Flat") == segments
    )  # asked for by its name: the same one


def test_many_vectors_get_lists_and_what_they_find_is_told(tmp_path: Path) -> None:
    (segment,) = put(tmp_path, parts(tmp_path, [300, 500, 400]))
    assert segment.factory == shortlist.chosen("auto", 1200) == "IVF128,SQ8"
    assert (segment.asked, segment.auto) == ("auto", True)
    assert segment.tuning is not None
    assert segment.tuning["recall"] >= 0.995
    assert segment.tuning["queries"] == 15 + 25 + 20
    assert f"nprobe {segment.tuning['nprobe']} of 128 lists" in segment.told()
    assert info(store_at(tmp_path))["segments"][0]["tuning"] == segment.tuning
    index = Index(tmp_path)
    assert index.local.shard.segments[0].shortlist.nprobe == segment.tuning["nprobe"]  # the file keeps it
    assert found(index) > 0.98
    assert verify(store_at(tmp_path)).problems == ()
    before = index.local.shard.shortlist(index.vectors()[:50], 30)
    for again in (Index(tmp_path), Index(tmp_path)):
        for one, other in zip(before, again.local.shard.shortlist(again.vectors()[:50], 30), strict=True):
            assert np.array_equal(one, other)


def test_the_same_parts_teach_the_same_in_any_order_and_number_of_segments(tmp_path: Path) -> None:
    entries = parts(tmp_path, [300, 500, 400])
    how = How("auto", whiten=True, auto=True)
    taught = learn(store_at(tmp_path), CONFIG, entries, how)
    assert taught == learn(store_at(tmp_path), CONFIG, entries[::-1], how)
    assert taught.quantizer is not None
    one = build(store_at(tmp_path), CONFIG, [entries], how)
    two = build(store_at(tmp_path), CONFIG, [entries[:2], entries[2:]], how)
    learnt = {read_segment(store_at(tmp_path), sha).learnt for sha in (*one, *two)}
    assert learnt == {(taught.fitted, taught.quantizer)}


def test_parts_that_come_later_share_what_was_learnt(tmp_path: Path) -> None:
    first = parts(tmp_path, [500, 500])
    (before,) = put(tmp_path, first)
    few = parts(tmp_path, [100], "m")
    segments = put(tmp_path, (*first, *few))
    assert [s.factory for s in segments] == ["IVF128,SQ8", "Flat"]  # few ones beside lists are all compared
    assert segments[0] == before
    many = parts(tmp_path, [450], "n")
    segments = put(tmp_path, (*first, *few, *many))
    assert [(s.factory, s.rows) for s in segments] == [("IVF128,SQ8", 1000), ("IVF128,SQ8", 550)]
    assert len({s.learnt for s in segments}) == 1
    index = Index(tmp_path)
    assert found(index) > 0.98
    mask = np.arange(len(index)) % 3 > 0
    for segment in (one.shortlist for one in index.local.shard.segments):
        segment.nprobe = segment.nlist
    rows, scores = index.local.shard.shortlist(index.vectors()[:40], 12, mask)
    expected = slow(index, mask)[:40]
    for exact in (-np.sort(-expected, 1)[:, :12], np.take_along_axis(expected, rows, 1)):
        off = np.abs(scores - exact)
        assert np.quantile(off, 0.99) < 0.06  # a byte a dimension
        assert off.max() < 0.1  # of the range of those that taught it: a vector held out may lie outside
    outgrown = parts(tmp_path, [1600, 1600, 1600, 1600], "p")
    segments = put(tmp_path, (*first, *few, *many, *outgrown))
    assert [(s.factory, s.rows) for s in segments] == [("IVF256,SQ8", 7950)]
    assert segments[0].learnt != before.learnt


def test_flat_segments_that_are_many_together_become_one_with_lists(tmp_path: Path) -> None:
    entries = parts(tmp_path, [120])
    put(tmp_path, entries)
    for at, name in enumerate("mno"):
        entries += parts(tmp_path, [110], name)
        segments = put(tmp_path, entries)
        assert [s.factory for s in segments] == (["Flat"] * (at + 2) if at < 2 else ["IVF64,SQ8"])
    by_name = put(tmp_path, entries, "Flat")
    assert [(s.factory, s.auto) for s in by_name] == [("Flat", False)]
    assert [s.factory for s in put(tmp_path, entries, "IVF8,SQ8")] == ["IVF8,SQ8"]
    assert [s.factory for s in put(tmp_path, entries)] == ["IVF64,SQ8"]


def test_dropping_and_compacting_keep_the_rule(tmp_path: Path) -> None:
    entries = parts(tmp_path, [190, 190, 190, 190])
    (before,) = put(tmp_path, entries)
    drop(store_at(tmp_path), ["d"])
    after = [read_segment(store_at(tmp_path), sha) for sha in latest(store_at(tmp_path)).segments]
    assert after == [before]  # masked
    compact(store_at(tmp_path), rows=190, segments=2)
    halves = [read_segment(store_at(tmp_path), sha) for sha in latest(store_at(tmp_path)).segments]
    assert [(s.factory, s.asked, s.rows) for s in halves] == [
        ("IVF128,SQ8", "auto", 190),
        ("IVF128,SQ8", "auto", 380),
    ]
    assert {s.learnt for s in halves} == {before.learnt}  # as many lists as before: kept
    assert found(Index(tmp_path)) > 0.98
    drop(store_at(tmp_path), ["b"])
    compact(store_at(tmp_path))
    (small,) = [read_segment(store_at(tmp_path), sha) for sha in latest(store_at(tmp_path)).segments]
    assert (small.factory, small.quantizer) == ("Flat", None)


def test_a_quantizer_that_is_damaged_or_gone_is_named(tmp_path: Path) -> None:
    (segment,) = put(tmp_path, parts(tmp_path, [300, 300]))
    path = fitted_path(store_at(tmp_path), segment.quantizer or "")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert [problem.path for problem in verify(store_at(tmp_path)).problems] == [f"fitted/{path.name}"]
    path.unlink()
    assert [problem.path for problem in verify(store_at(tmp_path)).problems] == [f"fitted/{path.name}"]
    path.write_bytes(whole)
    assert verify(store_at(tmp_path)).problems == ()


def test_a_quantizer_is_collected_with_the_last_version_that_needs_it(tmp_path: Path) -> None:
    entries = parts(tmp_path, [300, 300])
    (segment,) = put(tmp_path, entries)
    path = fitted_path(store_at(tmp_path), segment.quantizer or "")
    put(tmp_path, entries, "Flat")
    collect(store_at(tmp_path), 2)
    assert path.exists()
    collect(store_at(tmp_path), 1)
    assert not path.exists()
    assert verify(store_at(tmp_path)).problems == ()


def test_what_an_index_needs_is_counted_once(tmp_path: Path) -> None:
    first = parts(tmp_path, [450])
    put(tmp_path, first)
    segments = put(tmp_path, (*first, *parts(tmp_path, [450], "m")))
    stage_one = sum(s.sum.bytes for s in segments if s.sum)
    stage_one += sum(fitted_path(store_at(tmp_path), sha).stat().st_size for sha in segments[0].learnt)
    assert Snapshot(store_at(tmp_path)).bytes_per_image()["shortlist"] == pytest.approx(stage_one / 900)


def test_large_ones_are_split_at_parts() -> None:
    entries = tuple(
        PartEntry(name, name, rows, 0) for name, rows in zip("abcde", (5, 5, 9, 20, 1), strict=True)
    )
    assert [[entry.name for entry in share] for share in shares(entries, 10)] == [
        ["a", "b"],
        ["c"],
        ["d"],
        ["e"],
    ]
    assert [[entry.name for entry in share] for share in shares(entries, 100)] == [list("abcde")]


def test_what_does_not_learn_has_nothing_to_share(tmp_path: Path) -> None:
    (segment,) = put(tmp_path, parts(tmp_path, [60, 60]), "HNSW8")
    assert (segment.quantizer, segment.asked) == (None, "HNSW8")
    assert segment.tuning is not None
    assert (segment.tuning["nlist"], segment.tuning["candidates"]) == (0, 120)
    assert "of the exact first 100 among 120" in segment.told()
    assert replace(segment, tuning=None).told() == "HNSW8 over 120 vectors"
