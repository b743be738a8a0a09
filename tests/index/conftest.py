"""A tiny index, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from crater_ray.index.config import IndexConfig, create_or_check
from crater_ray.index.parts import PartEntry, part_digest
from crater_ray.index.segments import ShortlistSpec, write_segment
from crater_ray.index.store import store_at
from crater_ray.index.versions import Version, publish
from crater_ray.index.writer import PartWriter
from crater_ray.plugins import PluginRef
from crater_ray.types import Item

COLUMNS = pa.schema([("lat", pa.float64()), ("body", pa.string())])


def ref(kind: Any, name: str, **options: Any) -> PluginRef:
    return PluginRef(kind, name, options, "crater_ray.builtin", "crater-ray", "0.1.0")


@pytest.fixture
def config() -> IndexConfig:
    return IndexConfig(
        side="gallery",
        backbone=ref("backbone", "timm", model="vit", weights="/here/w"),
        backbone_digest="abc",
        grid=(2, 2),
        shortlist=ref("aggregator", "cls"),
        shortlist_m=1,
        shortlist_dim=3,
        rerank=ref("aggregator", "instance_tokens", k=2, heads="mean"),
        k=2,
        dim=4,
        codec="int8",
        record_bytes=8,
        scales=1,
        scoring="maxsim",
        batch=8,
        precision="bf16",
        max_pixels=1000,
        seed=0,
        files={"backbone.weights": ""},
    )


def save(path: Path) -> None:
    path.write_bytes(b"faiss" * 20)


class Maker:
    """Makes items, their arrays, parts and whole indexes; the same seed gives the same rows."""

    columns = COLUMNS
    readers = (ref("reader", "folder", root="/pictures"),)

    def items(self, name: str, n: int) -> list[Item]:
        return [
            Item(
                f"{name}/{i:03d}.jpg",
                f"g{i // 2}",
                f"{name}/{i:03d}.jpg",
                f"s{i}",
                columns={"lat": float(i), "body": "moon"},
            )
            for i in range(n)
        ]

    def arrays(self, config: IndexConfig, items: Sequence[Item]) -> tuple[Any, Any, Any]:
        random = np.random.default_rng([sum(map(ord, item.id)) for item in items])
        n = len(items)
        return (
            random.standard_normal((n, config.shortlist_m, config.shortlist_dim)).astype(np.float16),
            random.integers(0, 256, (n, config.record_bytes), dtype=np.uint8),
            random.random((n, config.scales), dtype=np.float32),
        )

    def part(
        self,
        root: Path,
        config: IndexConfig,
        name: str,
        items: Sequence[Item],
        batch: int = 3,
        skip: dict[str, str] | None = None,
    ) -> PartEntry:
        digest = part_digest(config.digest(), items)
        kept = [item for item in items if item.id not in (skip or {})]
        vectors, codes, scales = self.arrays(config, kept)
        with PartWriter(store_at(root), name, digest, config, self.columns) as part:
            for first in range(0, len(kept), batch):
                rows = slice(first, first + batch)
                part.append(kept[rows], vectors[rows], codes[rows], scales[rows])
            for id, reason in (skip or {}).items():
                part.skip(id, reason)
            return part.commit()

    def index(self, root: Path, config: IndexConfig, sizes: dict[str, int], faiss: bool = True) -> Version:
        create_or_check(store_at(root), config)
        parts = tuple(self.part(root, config, name, self.items(name, n)) for name, n in sizes.items())
        write = save if faiss else None
        how = ShortlistSpec("SQ8" if faiss else "Flat", seed=0, m=1, dim=3)
        sha = write_segment(store_at(root), parts, how, write)
        return publish(store_at(root), Version(1, 0, parts, (sha,), self.readers))

    def add(self, root: Path, version: Version, *parts: PartEntry) -> Version:
        return publish(
            store_at(root),
            replace(
                version, number=version.number + 1, parent=version.number, parts=(*version.parts, *parts)
            ),
        )


@pytest.fixture
def make() -> Maker:
    return Maker()
