"""An index of three segments and two versions, made without Ray, and the application around it, likewise."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from crater_ray.config import Scoring, ServeTable
from crater_ray.encoders import build_encoder
from crater_ray.index.config import IndexConfig, create_or_check, read_config
from crater_ray.index.fitted import read_fitted, write_fitted
from crater_ray.index.parts import PartEntry, part_digest
from crater_ray.index.segments import ShortlistSpec, write_segment
from crater_ray.index.store import store_at
from crater_ray.index.versions import Version, publish
from crater_ray.index.writer import PartWriter
from crater_ray.plugins import PluginRef, registry
from crater_ray.retrieve import Index
from crater_ray.search import whitening
from crater_ray.search.codecs import codec
from crater_ray.serve.application import application
from crater_ray.serve.basemap import Map
from crater_ray.serve.bearer_tokens import BearerTokens
from crater_ray.serve.encoder import QueryEncoder
from crater_ray.serve.replicas import Replicas
from crater_ray.serve.searcher import Searcher
from crater_ray.serve.service import Pin, Service

SITE = Path(__file__).parent / "site"
TOKEN = "a token of more than sixteen"
SEGMENTS = ((0, 20), (20, 14), (34, 9))  # first item, items: each is a part and a segment
CODEC = "int8"


@pytest.fixture(scope="session")
def painted() -> Iterator[None]:
    """The painted plugin, installed as a stranger's package is: on sys.path, with a dist-info."""
    before = os.environ.get("PYTHONPATH")
    sys.path.insert(0, str(SITE))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SITE), before]))
    registry.cache_clear()
    yield
    sys.path.remove(str(SITE))
    os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)
    registry.cache_clear()


def _ref(kind: Any, name: str, **options: Any) -> PluginRef:
    return registry().ref(kind, name, options, base=Path("/"), where="the tests")


def make_index(
    root: Path, segments: tuple[tuple[int, int], ...] = SEGMENTS, scoring: Scoring = "maxsim"
) -> Path:
    """Version n holds the first n + 1 segments: the last but one, and all."""
    backbone, one, many = (
        _ref("backbone", "painted_fake"),
        _ref("aggregator", "mean"),
        _ref("aggregator", "instance_tokens", k=6),
    )
    kept = codec(CODEC)
    config = IndexConfig(
        side="gallery",
        backbone=backbone,
        backbone_digest=registry().build(backbone).digest,
        grid=(4, 4),
        shortlist=one,
        shortlist_m=1,
        shortlist_dim=16,
        rerank=many,
        k=6,
        dim=16,
        codec=CODEC,
        record_bytes=kept.record_bytes(6, 16),
        scales=kept.scales,
        scoring=scoring,
        batch=8,
        precision="fp32",
        max_pixels=1_000_000,
        seed=0,
        files={},
    )
    create_or_check(store_at(root), config)
    encoder = build_encoder(store_at(root), config, threads=1, batch=1)
    parts: list[PartEntry] = []
    shas: list[str] = []
    readers: list[PluginRef] = []
    fitted = None
    for first, count in segments:
        reader_ref = _ref("reader", "painted", first=first, items=count)
        reader = registry().build(reader_ref)
        items = list(reader.read(reader.parts()[0]))
        name, digest = reader.parts()[0], part_digest(config.digest(), items)
        rows = [_encoded(encoder, reader, item) for item in items]
        vectors, tokens = (np.concatenate(arrays) for arrays in zip(*rows, strict=True))
        with PartWriter(store_at(root), name, digest, config, reader.columns) as part:
            part.append(items, vectors, *kept.encode(tokens))
            entry = part.commit()
        if fitted is None:
            fitted = write_fitted(store_at(root), whitening.learn(vectors, 0))
        where = PartEntry(entry.name, entry.digest, entry.rows, entry.skipped, len(readers))
        readers.append(reader_ref)
        shas.append(
            write_segment(store_at(root), (where,), ShortlistSpec("Flat", seed=0, m=1, dim=16, fitted=fitted))
        )
        parts.append(where)
        if len(parts) >= max(1, len(segments) - 1):
            number = len(parts) - max(1, len(segments) - 1) + 1
            publish(store_at(root), Version(number, number - 1, tuple(parts), tuple(shas), tuple(readers)))
    assert read_fitted(store_at(root), fitted or "")
    return root


def _encoded(encoder: Any, reader: Any, item: Any) -> tuple[Any, Any]:
    from crater_ray.errors import BadImage
    from crater_ray.images import pixels

    try:
        image = pixels(reader.load(item.uri), 1_000_000)
    except BadImage:  # kept in the index, so that its picture is asked for in vain
        image = np.full((64, 64, 3), 90, np.uint8)
    rows = encoder.rows(encoder.tokens(encoder.backbone.preprocess(image)[None]), "gallery", 1)
    return rows.vectors, rows.tokens


@pytest.fixture(scope="session")
def root(painted: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_index(tmp_path_factory.mktemp("serve") / "craters")


@pytest.fixture(scope="session")
def index(root: Path) -> Index:
    """What is served, without the service."""
    return Index(root, threads=1)


@dataclass
class Local:
    """A Target in this process: what is in `failing` raises, as often as its list is long."""

    thing: Any
    failing: dict[str, list[BaseException]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    async def __call__(self, method: str, *arguments: Any) -> Any:
        self.calls.append(method)
        await asyncio.sleep(0)
        if self.failing.get(method):
            raise self.failing[method].pop()
        if method == "encode":
            return self.thing.encode([arguments[0]], [arguments[1]])[0]
        return getattr(self.thing, method)(*arguments)


@dataclass
class Rig:
    """A service and its application, all in this process."""

    service: Service
    client: TestClient
    shards: list[Local]
    encoder: Local
    changes: list[int | None]


Rigs = Callable[..., Rig]


@pytest.fixture(scope="session")
def query_encoder(root: Path) -> QueryEncoder:
    return QueryEncoder(root, threads=1)


@pytest.fixture
def rig(root: Path, query_encoder: QueryEncoder) -> Rigs:
    """Makes one: rig(shards=3, version=2, token=False, max_concurrency=…)"""

    def make(
        shards: int = 1,
        version: int = 2,
        token: bool = True,
        basemaps: Sequence[Map] = (),
        hosts: frozenset[str] | None = None,
        where: Path = root,
        **table: Any,
    ) -> Rig:
        searchers = [Searcher(where, shard, shards, threads=1) for shard in range(shards)]
        for searcher in searchers:
            searcher.hold([version])
        targets = [Local(searcher) for searcher in searchers]
        encoder = Local(query_encoder)
        settled = ServeTable(**{"ready_timeout_s": 5.0, "shards": shards, **table})
        replicas = Replicas(targets, encoder, settled)
        config = read_config(store_at(where))
        service = Service(where, where.name, replicas, Pin(version, (version,)), config)
        service.put(Pin(version, (version,)))
        changes: list[int | None] = []

        async def change(number: int | None) -> None:
            changes.append(number)

        app = application(
            service,
            tokens=BearerTokens([TOKEN] if token else None),
            change=change,
            basemaps=basemaps,
            hosts=hosts,
        )
        headers = {"authorization": f"Bearer {TOKEN}"} if token else {}
        return Rig(service, TestClient(app, headers=headers), targets, encoder, changes)

    return make


@pytest.fixture
def painted_copy(root: Path, tmp_path: Path) -> Path:
    """The index once more, to be damaged."""
    return Path(shutil.copytree(root, tmp_path / "craters"))
