"""Filters, dropped parts and expansion where the shortlist is IVF: in process, over segments, over shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from crater_ray.index.config import IndexConfig, create_or_check
from crater_ray.index.parts import PartEntry, part_digest
from crater_ray.index.segments import read_segment
from crater_ray.index.store import store_at
from crater_ray.index.versions import Version, publish
from crater_ray.index.writer import PartWriter
from crater_ray.jobs.segment import How, build
from crater_ray.plugins import PluginRef
from crater_ray.request import Box, Filter, SearchRequest
from crater_ray.retrieve import Index
from crater_ray.search import filtered
from crater_ray.search.codecs import codec
from crater_ray.serve.searcher import Searcher, ShardQuery, ShardResult
from crater_ray.serve.sharded import merge
from crater_ray.shard import Queries
from crater_ray.types import MODES, Item

ROWS, PARTS, DIM = 900, 4, 16
COLUMNS = pa.schema(
    [("place", pa.int64()), ("chance", pa.float64()), ("lat", pa.float64()), ("lon", pa.float64())]
)


def ref(kind: str, name: str) -> PluginRef:
    return PluginRef(kind, name, {}, "crater_ray.builtin", "crater-ray", "0.1.0")  # type: ignore[arg-type]


CONFIG = IndexConfig(
    side="gallery",
    backbone=ref("backbone", "timm"),
    backbone_digest="none",
    grid=(4, 4),
    shortlist=ref("aggregator", "mean"),
    shortlist_m=1,
    shortlist_dim=DIM,
    rerank=ref("aggregator", "instance_tokens"),
    k=2,
    dim=DIM,
    codec="fp16",
    record_bytes=codec("fp16").record_bytes(2, DIM),
    scales=codec("fp16").scales,
    scoring="maxsim",
    batch=8,
    precision="bf16",
    max_pixels=1000,
    seed=0,
)


def part(root: Path, number: int) -> PartEntry:
    """Views around 40 places; two tokens each, whose mean is the shortlist vector."""
    random = np.random.default_rng(number)
    places = np.random.default_rng(99).standard_normal((40, DIM))
    of = random.integers(0, 40, ROWS)
    tokens = places[of][:, None] + 0.5 * random.standard_normal((ROWS, 2, DIM))
    tokens = (tokens / np.linalg.norm(tokens, axis=2, keepdims=True)).astype(np.float32)
    items = [
        Item(
            f"p{number}/{row}",
            f"p{number}/{row // 2}",
            "",
            columns={
                "place": int(of[row]),
                "chance": float(random.random()),
                "lat": float(of[row]),
                "lon": float(random.uniform(-180, 180)),
            },
        )
        for row in range(ROWS)
    ]
    name = f"p{number}"
    with PartWriter(store_at(root), name, part_digest(CONFIG.digest(), items), CONFIG, COLUMNS) as writer:
        writer.append(items, tokens.mean(1)[:, None].astype(np.float16), *codec("fp16").encode(tokens))
        return writer.commit()


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two segments of two parts each, IVF; the second version has lost a part of the first."""
    root = tmp_path_factory.mktemp("lists")
    create_or_check(store_at(root), CONFIG)
    entries = tuple(part(root, number) for number in range(PARTS))
    shas = build(store_at(root), CONFIG, (entries[:2], entries[2:]), How("IVF64,SQ8", whiten=True))
    assert all(read_segment(store_at(root), sha).file for sha in shas)
    reader = (ref("reader", "folder"),)
    publish(store_at(root), Version(1, 0, entries, shas, reader))
    publish(store_at(root), Version(2, 1, (entries[0], *entries[2:]), shas, reader))
    return root


@pytest.fixture(params=["few are compared", "lists are looked into"])
def road(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filtered, "CALLED", 10**9 if request.param == "few are compared" else 0)
    monkeypatch.setattr(filtered, "ASKED", 0)


@pytest.fixture(scope="module")
def searchers(lists: Path) -> dict[int, list[Searcher]]:
    """The shards of a service of one, and of two."""
    made = {shards: [Searcher(lists, at, shards, threads=1) for at in range(shards)] for shards in (1, 2)}
    for searcher in (*made[1], *made[2]):
        searcher.hold([2])
    return made


def asked(searchers: list[Searcher], query: ShardQuery) -> list[tuple[str, float]]:
    """What the shards of a service answer together."""
    found: list[ShardResult | None] = [searcher.search(query) for searcher in searchers]
    return [(hit.id, hit.score) for hit in merge(found, query.request)]


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize(
    "how",
    [
        {"filters": (Filter(column="chance", max=0.1),)},
        {"filters": (Filter(column="chance", max=0.01),)},
        {"filters": (Filter(column="chance", max=0.001),)},
        {"filters": (Filter(column="place", any_of=[3, 4]),)},
        {"box": Box(west=-30, south=10, east=30, north=12)},
        {"box": Box(west=0, south=80, east=1, north=81)},
    ],
    ids=str,
)
def test_filters_keep_their_answers_with_a_part_dropped_and_over_shards(
    lists: Path, searchers: dict[int, list[Searcher]], how: dict
) -> None:
    from crater_ray.filters import mask

    index = Index(lists, 2, threads=1)
    assert any(
        there is not None for there in (segment.present for segment in index.local.shard.segments)
    )  # rows are masked
    allowed = mask(index.items(), how.get("filters", ()), how.get("box"))
    assert allowed is not None
    shares = []
    for row in range(0, len(index), 300):
        vectors, tokens = index.stored(np.array([row]))
        few = allowed.copy()
        few[row] = False
        request = SearchRequest(id=index.ids[row], top=20, candidates=200, version=2, **how)
        hits = index.search(request)
        queries = Queries(vectors, tokens, mask=few)
        assert hits == index.local.answer(queries, SearchRequest(top=20, candidates=200))
        best = index.local.answer(queries, SearchRequest(top=20, mode="exact"))
        assert len(hits) == len(best) == min(20, few.sum())
        assert {hit.id for hit in hits} <= {index.ids[at] for at in np.flatnonzero(few)}
        if best:
            shares.append(len({hit.id for hit in hits} & {hit.id for hit in best}) / len(best))
        query = ShardQuery(request, vectors[0], tokens[0])
        for shards in searchers.values():
            assert asked(shards, query) == [(hit.id, pytest.approx(hit.score)) for hit in hits]
    assert not shares or np.mean(shares) >= 0.98


@pytest.mark.parametrize("mode", ["exact", "shortlist"])
@pytest.mark.parametrize("expand", [1, 3])
def test_a_hit_that_joined_is_scored_by_the_query_and_the_others(
    lists: Path, searchers: dict[int, list[Searcher]], mode: str, expand: int
) -> None:
    index = Index(lists, 2, threads=1)
    row = index.row("p0/7")
    vectors, tokens = index.stored(np.array([row]))
    first = index.search(id="p0/7", top=expand, mode=mode)
    joined = [index.row(hit.id) for hit in first]
    request = SearchRequest(id="p0/7", top=40, mode=mode, expand=expand, version=2)
    hits = index.search(request)
    by_id = {hit.id: hit.score for hit in hits}
    every = index.stored(np.array(joined))[1]
    for place, at in enumerate(joined):
        others = [one for number, one in enumerate(every) if number != place]
        query = np.concatenate([tokens[0], *others])
        wanted = float(index.local.shard.rerank(query[None], np.array([[at]]))[0, 0])
        assert by_id[index.ids[at]] == pytest.approx(wanted, abs=1e-6)
    if expand == 1:  # one that is alone gets what it had
        assert by_id[first[0].id] == pytest.approx(first[0].score, abs=1e-6)
    query = np.concatenate([tokens[0], *every])
    for hit in [hit for hit in hits if index.row(hit.id) not in joined][:5]:
        score = float(index.local.shard.rerank(query[None], np.array([[index.row(hit.id)]]))[0, 0])
        assert hit.score == pytest.approx(score, abs=1e-6)
    kept = []
    for hit in first:
        for searcher in searchers[2]:
            if (one := searcher.stored(2, hit.id)) is not None:
                kept.append(one)
    joining = ShardQuery(request, vectors[0], tokens[0], joined=tuple(kept))
    for shards in searchers.values():
        assert asked(shards, joining) == [(hit.id, pytest.approx(hit.score, abs=1e-6)) for hit in hits]


def test_a_joined_hit_is_scored_by_the_others_in_the_shortlist_too(lists: Path) -> None:
    from crater_ray.search.whitening import whiten

    index = Index(lists, 1, threads=1)
    vectors, tokens = index.stored(np.array([5]))
    shard = index.local.shard
    request = SearchRequest(top=30, candidates=30)
    found = shard.candidates(Queries(vectors, tokens), request)
    rows, firsts = found.rows, found.shortlist_scores
    one = rows[0][rows[0] != 5][0]
    found = shard.candidates(Queries(vectors, tokens, joined=[shard.stored(np.array([one]))]), request)
    again, scores = found.rows, found.shortlist_scores
    before, after = firsts[0][rows[0] == one], scores[0][again[0] == one]
    assert after == pytest.approx(before, abs=1e-5)  # as by the query alone, and not by itself
    learnt = index.snapshot.fitted(index.snapshot.segments[0])
    assert learnt is not None
    both = whiten(np.concatenate([vectors, index.stored(np.array([one]))[0]]), learnt)[:, 0]
    other = again[0][(again[0] != one) & (again[0] != 5)][0]
    row = whiten(index.stored(np.array([other]))[0], learnt)[0, 0]
    assert scores[0][again[0] == other] == pytest.approx(float((both @ row).max()), abs=0.03)  # a byte each


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize(
    "how",
    [{}, {"filters": (Filter(column="chance", max=0.05),)}],
    ids=["all", "filtered"],
)
def test_lists_rank_by_the_cosine_with_what_they_keep_in_8_bits(
    lists: Path, searchers: dict[int, list[Searcher]], how: dict
) -> None:
    from crater_ray.filters import mask
    from crater_ray.search.whitening import whiten

    index = Index(lists, 2, threads=1)
    learnt = index.snapshot.fitted(index.snapshot.segments[0])
    assert learnt is not None
    unit = whiten(index.vectors(), learnt)[:, 0]
    passing = mask(index.items(), how.get("filters", ()), None)
    shares = []
    for row in range(7, len(index), 500):
        vectors, tokens = index.stored(np.array([row]))
        request = SearchRequest(id=index.ids[row], top=20, mode="shortlist-only", version=2, **how)
        hits = index.search(request)
        by_id = [(hit.id, pytest.approx(hit.score, abs=1e-6)) for hit in hits]
        scores = unit @ unit[row]
        rows = [index.row(hit.id) for hit in hits]
        np.testing.assert_allclose([hit.score for hit in hits], scores[rows], atol=0.03)
        scores[row] = -np.inf
        if passing is not None:
            scores[~passing] = -np.inf
            assert passing[rows].all()
        shares.append(len({*np.argsort(-scores)[:20].tolist()} & {*rows}) / 20)
        for shards in searchers.values():
            assert asked(shards, ShardQuery(request, vectors[0], tokens[0])) == by_id
    assert np.mean(shares) >= 0.9


@pytest.mark.parametrize("mode", MODES)
def test_rows_without_which_a_query_is_ranked(lists: Path, mode: str) -> None:
    index = Index(lists, 1, threads=1)
    asked = np.array([5, 1700])
    vectors, tokens = index.stored(asked)
    plain = index.local.rank(Queries(vectors, tokens), SearchRequest(mode=mode, top=30))
    gone = [one.rows[:4] for one in plain]
    for expand in (0, 2):
        request = SearchRequest(mode=mode, top=20, expand=expand)
        for at, ranking in enumerate(index.local.rank(Queries(vectors, tokens, gone), request)):
            rows = ranking.rows
            assert len(rows) == 20
            assert not set(rows.tolist()) & set(gone[at].tolist())
            if not expand:
                assert rows.tolist() == plain[at].rows[4:24].tolist()
