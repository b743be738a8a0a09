"""What the plan says before is what the disk says after, within a tenth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from crater_ray import plan
from crater_ray.cli import main
from crater_ray.errors import ConfigError, ReaderError
from crater_ray.index.config import IndexConfig, create_or_check
from crater_ray.index.parts import part_digest
from crater_ray.index.snapshot import Snapshot
from crater_ray.index.store import store_at
from crater_ray.index.versions import Version, publish
from crater_ray.index.writer import PartWriter
from crater_ray.jobs.segment import How
from crater_ray.jobs.segment import build as stage_one
from crater_ray.plugins import PluginRef
from crater_ray.types import Item

MOON = Path(__file__).parents[1] / "indexes" / "moon20k"
K, DIM, CODEC = 32, 384, "int4"
SHAPE = plan.Shape(1, 384, K * DIM // 2, 1)  # DINOv2 ViT-S/14, whitened tokens in 4 bits


class Craters:
    """Lists views as a catalogue of craters does: ids, angles with all their digits, a body."""

    columns = pa.schema(
        [("body", pa.string()), ("lat", pa.float64()), ("lon", pa.float64()), ("km", pa.float64())]
    )

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = sizes

    def parts(self) -> list[str]:
        return [f"n{number:03d}" for number in range(len(self.sizes))]

    def read(self, part: str) -> list[Item]:
        number = int(part[1:])
        random = np.random.default_rng(number)
        return [
            Item(
                f"H{number:03d}{view // 2:04d}_x{2 + view % 2}",
                f"H{number:03d}{view // 2:04d}",
                f"H{number:03d}{view // 2:04d}_x{2 + view % 2}",
                columns={
                    "body": "moon",
                    "lat": random.uniform(-90, 90),
                    "lon": random.uniform(-180, 180),
                    "km": random.pareto(2) + 1,
                },
            )
            for view in range(self.sizes[number])
        ]

    def load(self, uri: str) -> bytes:
        raise OSError(uri)


def ref(kind: Any, name: str) -> PluginRef:
    return PluginRef(kind, name, {}, "crater_ray.builtin", "crater-ray", "0.1.0")


def build(root: Path, reader: Craters, factory: str) -> None:
    """An index of the real shape, with random numbers in it."""
    config = IndexConfig(
        side="gallery",
        backbone=ref("backbone", "timm"),
        backbone_digest="none",
        grid=(16, 16),
        shortlist=ref("aggregator", "cls"),
        shortlist_m=SHAPE.m,
        shortlist_dim=SHAPE.dim,
        rerank=ref("aggregator", "whitened_tokens"),
        k=K,
        dim=DIM,
        codec=CODEC,
        record_bytes=SHAPE.code_bytes,
        scales=SHAPE.scales,
        scoring="maxsim",
        batch=8,
        precision="bf16",
        max_pixels=1000,
        seed=0,
    )
    create_or_check(store_at(root), config)
    random, parts = np.random.default_rng(0), []
    for name in reader.parts():
        items = reader.read(name)
        vectors = random.standard_normal((len(items), 1, SHAPE.dim)).astype(np.float16)
        codes = random.integers(0, 256, (len(items), SHAPE.code_bytes), dtype=np.uint8)
        scales = random.random((len(items), 1), dtype=np.float32)
        with PartWriter(
            store_at(root), name, part_digest(config.digest(), items), config, reader.columns
        ) as part:
            part.append(items, vectors, codes, scales)
            parts.append(part.commit())
    shas = stage_one(store_at(root), config, [tuple(parts)], How(factory, whiten=True))
    publish(store_at(root), Version(1, 0, tuple(parts), shas, (ref("reader", "craters"),)))


def on_disk(root: Path) -> dict[str, int]:
    """kind of file -> bytes, of what the current version refers to."""
    snapshot = Snapshot(store_at(root))
    found: dict[str, int] = {"versions and segments": 0, "shortlist.faiss": 0, "fitted": 0}
    for part in snapshot.parts:
        for path in part.folder.iterdir():
            found[path.name] = found.get(path.name, 0) + path.stat().st_size
    found["versions and segments"] += (root / f"versions/{snapshot.version.number}.json").stat().st_size
    for segment in snapshot.segments:
        for path in (root / "segments" / segment.sha).iterdir():
            kind = path.name if path.name == "shortlist.faiss" else "versions and segments"
            found[kind] += path.stat().st_size
    for sha in {sha for segment in snapshot.segments for sha in segment.learnt}:  # segments share them
        found["fitted"] += (root / f"fitted/{sha}.safetensors").stat().st_size
    return found


def agree(foretold: plan.Cost, root: Path, *, least: int) -> None:
    """Every kind of file of `least` bytes or more, and all together, within a tenth."""
    found = on_disk(root)
    assert foretold.as_dict()["bytes"] == pytest.approx(sum(found.values()), rel=0.1)
    for kind, size in found.items():
        if size >= least:
            assert foretold.files.get(kind, 0) == pytest.approx(size, rel=0.1), kind


@pytest.mark.parametrize("factory", ["Flat", "SQ8", "IVF8,SQ8", "HNSW16,SQ8"])
def test_a_plan_is_what_the_built_index_weighs(tmp_path: Path, factory: str) -> None:
    reader = Craters([300, 420, 380, 400])
    build(tmp_path / "index", reader, factory)
    listing = plan.listed(reader)
    assert listing.parts == 4
    agree(plan.estimate(SHAPE, listing, 1500, factory), tmp_path / "index", least=20_000)
    again = plan.like_index(tmp_path / "index")
    agree(plan.estimate(SHAPE, again, 1500, factory), tmp_path / "index", least=10_000)


def test_a_plan_names_an_id_that_is_listed_twice() -> None:
    class Twice(Craters):
        def read(self, part: str) -> list[Item]:
            return super().read("n000")

    with pytest.raises(ReaderError, match=r"id 'H0000000_x2' stands in part n000 and in part n001"):
        plan.listed(Twice([300, 420]))


def test_of_many_parts_three_are_listed() -> None:
    listing = plan.listed(Craters([2] * (plan.READ + 1)))
    assert (listing.views, listing.parts, listing.counted) == (2 * plan.READ + 2, plan.READ + 1, False)


@pytest.mark.real
def test_a_plan_is_what_20_000_views_of_the_moon_weigh() -> None:
    if not (MOON / "index.json").exists():
        pytest.skip("indexes/moon20k is not built: crater-ray index benchmarks/moon20k.toml")
    config = Snapshot(store_at(MOON)).config
    shape = plan.Shape(config.shortlist_m, config.shortlist_dim, config.record_bytes, config.scales)
    listing = plan.like_index(MOON)
    foretold = plan.estimate(shape, listing, listing.views, "Flat")
    agree(foretold, MOON, least=10_000)


def test_views_scale_everything_but_a_part() -> None:
    listing = plan.Listing(1000, 10, 100.0)
    small, large = (plan.estimate(SHAPE, listing, views, "Flat") for views in (10**6, 10**9))
    assert (small.parts, large.parts) == (10_000, 10_000_000)
    assert large.as_dict()["bytes"] == pytest.approx(1000 * small.as_dict()["bytes"], rel=0.01)
    assert large.encoder_hours == pytest.approx(1e9 / 20 / 3600)
    eight = plan.estimate(SHAPE, listing, 10**9, "Flat", images_per_second=600, encoders=8, nodes=16)
    assert eight.as_dict()["hours"] == pytest.approx(1e9 / 600 / 8 / 3600)
    assert eight.searcher_memory < large.searcher_memory / 15
    assert "1,000,000,000 views in 10,000,000 parts" in eight.as_text()


@pytest.mark.parametrize(
    ("sizes", "line"), [([5, 9, 1], "15 views in 3 parts"), ([5, 9, 1, 1], "about 9 views in 4")]
)
def test_an_estimate_of_the_views_says_so(
    sizes: list[int], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "READ", 3)
    listing = plan.listed(Craters(sizes))
    foretold = plan.estimate(SHAPE, listing, listing.views)
    assert foretold.as_text().startswith(line)
    asked = plan.estimate(SHAPE, listing, 10**6)
    assert asked.as_text().startswith("1,000,000 views in")


def test_a_factory_that_faiss_does_not_take_is_the_users_mistake() -> None:
    with pytest.raises(ConfigError, match="no FAISS index"):
        plan.estimate(SHAPE, plan.Listing(1000, 1, 0.0), 1000, "Flatt")


def test_a_reader_that_lists_nothing_cannot_be_planned() -> None:
    with pytest.raises(ReaderError, match="nothing to plan with"):
        plan.listed(Craters([]))
    with pytest.raises(ReaderError, match="nothing to plan with"):
        plan.listed(Craters([0]))


def test_the_command_plans_like_an_index_and_builds_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(tmp_path / "index", Craters([30, 40]), "Flat")
    job = tmp_path / "job.toml"
    job.write_text(
        'out = "elsewhere"\n[reader]\nname = "folder"\nroot = "nowhere"\n'
        '[backbone]\nname = "timm"\nmodel = "vit_small_patch14_dinov2.lvd142m"\n'
    )
    asked = ["plan", str(job), "--like", str(tmp_path / "index"), "--views", "1e6", "--nodes", "4", "--json"]
    with pytest.raises(SystemExit) as end:
        main(asked)
    assert not end.value.code
    told = json.loads(capsys.readouterr().out)
    assert (told["views"], told["nodes"], told["files"]["codes.bin"]) == (
        10**6,
        4,
        10**6 * SHAPE.code_bytes,
    )
    assert not (tmp_path / "elsewhere").exists()
    for wrong, said in ((["--views", "many"], "20000 or 1e9"), (["--set", "rerank.codec=int8"], "--like")):
        with pytest.raises(SystemExit) as end:
            main([*asked, *wrong])
        assert end.value.code == 2
        assert said in capsys.readouterr().err


def test_a_shape_says_what_an_image_weighs() -> None:
    listing = plan.Listing(1000, 1, 0.0)
    one = plan.estimate(replace(SHAPE, scales=0), listing, 10**6, "SQ8", whiten=False)
    assert one.as_dict()["bytes_per_view"] == pytest.approx(SHAPE.code_bytes + 2 * 384 + 384, rel=0.01)


@pytest.mark.parametrize(("views", "said"), [(10, "less than 1 min"), (7200, "6 min"), (720_000, "10.0 h")])
def test_a_time_is_in_a_unit_that_shows_it(views: int, said: str) -> None:
    told = plan.estimate(plan.Shape(1, 384, 100, 1), plan.Listing(views, 1, 10.0), views).as_text()
    assert f"{said} on 1 encoder\n" in told
    assert "1 node with" in told
