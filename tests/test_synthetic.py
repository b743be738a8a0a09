"""benchmarks/synthetic.py: a real index's format, seeded, gone on with after a stop."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from crater_ray.index.config import IndexConfig, create_or_check
from crater_ray.index.fitted import write_fitted
from crater_ray.index.parts import part_digest
from crater_ray.index.snapshot import Snapshot
from crater_ray.index.store import store_at
from crater_ray.index.verify import verify
from crater_ray.index.versions import Version, publish
from crater_ray.index.writer import PartWriter
from crater_ray.plugins import registry
from crater_ray.retrieve import Index
from crater_ray.search.codecs import codec
from crater_ray.types import Item

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "synthetic.py"
K, DIM = 4, 16


@pytest.fixture(scope="module")
def synthetic() -> ModuleType:
    spec = importlib.util.spec_from_file_location("synthetic", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["synthetic"] = module  # its dataclasses look for it there
    spec.loader.exec_module(module)
    return module


def real(root: Path) -> Path:
    """An index of 30 craters of two views, of whitened tokens in 2 bits."""
    ref: Any = registry().ref
    config = IndexConfig(
        side="gallery",
        backbone=ref("backbone", "timm", {"model": "vit_small_patch16_224"}),
        backbone_digest="none",
        grid=(4, 4),
        shortlist=ref("aggregator", "cls"),
        shortlist_m=1,
        shortlist_dim=DIM,
        rerank=ref("aggregator", "whitened_tokens"),
        k=K,
        dim=DIM,
        codec="int2",
        record_bytes=codec("int2").record_bytes(K, DIM),
        scales=1,
        scoring="maxsim",
        batch=8,
        precision="bf16",
        max_pixels=1000,
        seed=0,
        fits={
            "rerank": write_fitted(store_at(root), {"centre": np.zeros(DIM, np.float32), "axes": np.eye(DIM)})
        },
    )
    create_or_check(store_at(root), config)
    random = np.random.default_rng(0)
    items = [Item(f"H{n // 2}_x{2 + n % 2}", f"H{n // 2}", f"H{n}") for n in range(60)]
    tokens = random.standard_normal((60, K, DIM)).astype(np.float32)
    vectors = tokens.mean(1, keepdims=True).astype(np.float16)
    with PartWriter(
        store_at(root), "all", part_digest(config.digest(), items), config, pa.schema([])
    ) as part:
        part.append(items, vectors, *codec("int2").encode(tokens))
        publish(
            store_at(root),
            Version(1, 0, (part.commit(),), (), (ref("reader", "folder", {"root": str(root)}),)),
        )
    return root


def drawn(synthetic: ModuleType, source: Path, out: Path, views: int, **more: Any) -> Index:
    process = synthetic.Process(alike=10)
    synthetic.write(synthetic.Real(source), out, views, seed=3, queries=20, process=process, **more)
    synthetic.build_shortlist(out)
    return Index(out)


def codes(index: Index) -> dict[str, bytes]:
    return {
        part.entry.name: (part.folder / "codes.bin").read_bytes() + (part.folder / "vectors.npy").read_bytes()
        for part in index.snapshot.parts
    }


def test_an_index_is_drawn_in_the_real_format(
    synthetic: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic, "PART", 100)
    source = real(tmp_path / "real")
    index = drawn(synthetic, source, tmp_path / "one", 250)
    assert len(index) == 250
    assert {part.entry.name: len(part) for part in index.snapshot.parts} == {
        "drawn000000": 100,
        "drawn000001": 100,
        "drawn000002": 30,
        "held": 20,
    }
    for root in (tmp_path / "one", tmp_path / "one" / "queries"):
        assert verify(store_at(root)).problems == ()
    tokens = index.stored(np.arange(250))[1]
    means = tokens.mean(1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    assert (np.einsum("nd,nd->n", means, index.vectors()[:, 0].astype(np.float32)) > 0.8).all()
    asked = Snapshot(store_at(tmp_path / "one" / "queries"))
    assert asked.groups.to_pylist() == [f"Q{n:08d}" for n in range(20)]
    assert set(asked.groups.to_pylist()) <= set(index.groups)
    assert index.search(id="Q00000003_x2", top=3, mode="exact")

    again = drawn(synthetic, source, tmp_path / "two", 250)
    assert codes(again) == codes(index)
    assert len({data for data in codes(index).values()}) == 4
    more = drawn(synthetic, source, tmp_path / "three", 420)
    assert codes(more).items() >= {name: codes(index)[name] for name in ("drawn000000", "held")}.items()


def test_a_stopped_one_is_gone_on_with(
    synthetic: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic, "PART", 100)
    source, views = real(tmp_path / "real"), synthetic.Drawing.views
    whole = codes(drawn(synthetic, source, tmp_path / "whole", 250))
    left = [3]

    def stopped(drawing: Any, count: int) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return views(drawing, count)

    monkeypatch.setattr(synthetic.Drawing, "views", stopped)
    with pytest.raises(KeyboardInterrupt):
        drawn(synthetic, source, tmp_path / "out", 250)
    there = {path.name for path in (tmp_path / "out" / "parts").iterdir()}
    assert len(there) == 3
    monkeypatch.setattr(synthetic.Drawing, "views", views)
    assert codes(drawn(synthetic, source, tmp_path / "out", 250)) == whole
    assert there <= {path.name for path in (tmp_path / "out" / "parts").iterdir()}


def test_tokens_of_several_views_are_taken_each_from_its_own(synthetic: ModuleType, tmp_path: Path) -> None:
    source = real(tmp_path / "real")
    opened = synthetic.Real(source)
    assert opened.pairs.shape == (30, 2)
    rows = np.array([[0, 0, 1, 1]])
    kept = codec("int2").decode(*Snapshot(store_at(source)).gather(np.array([0, 1])), K, DIM)
    kept /= np.linalg.norm(kept, axis=2, keepdims=True)
    np.testing.assert_allclose(opened.tokens(rows)[0], [*kept[0, :2], *kept[1, 2:]], atol=1e-6)


def test_turning_keeps_every_angle_between_tokens(synthetic: ModuleType) -> None:
    random = np.random.default_rng(0)
    rows = random.standard_normal((3, 5, 8)).astype(np.float32)
    angles = random.standard_normal((3, 4)).astype(np.float32)
    turned = synthetic.turned(rows.copy(), angles)
    np.testing.assert_allclose(turned @ turned.transpose(0, 2, 1), rows @ rows.transpose(0, 2, 1), atol=1e-4)
    assert abs(turned - rows).max() > 0.1
