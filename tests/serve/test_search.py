"""The served answer is the in-process one, whatever the shards; filters, pages, items, batches."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crater_ray.errors import QueryError
from crater_ray.request import Filter, SearchRequest
from crater_ray.retrieve import Index
from crater_ray.serve.calls import Busy
from crater_ray.serve.searcher import NotHeld
from crater_ray.shard import Queries
from crater_ray.types import MODES, Hit

Rigs = Callable[..., Any]
HOW = {  # what a mode has
    "exact": {"explain": True},
    "shortlist": {"candidates": 12, "explain": True},
    "shortlist-only": {},
}
ODD = "../odd 'id' \"of\" 9% <b>/é.jpg"


def png(seed: int = 5) -> bytes:
    blocks = np.random.default_rng(seed).integers(20, 200, (8, 8, 3))
    data = io.BytesIO()
    Image.fromarray(np.kron(blocks, np.ones((8, 8, 1))).astype(np.uint8)).save(data, "PNG")
    return data.getvalue()


def found(reply: Any) -> list[tuple[int, str, str, float]]:
    assert reply.status_code == 200, reply.text
    return [(hit["rank"], hit["id"], hit["group"], hit["score"]) for hit in reply.json()["hits"]]


def expected(hits: Any) -> list[tuple[int, str, str, float]]:
    return [(hit.rank, hit.id, hit.group, hit.score) for hit in hits]


def explained(hit: Hit, asked: dict[str, Any]) -> list[dict[str, Any]] | None:
    return [asdict(pair) for pair in hit.explanation] if asked.get("explain") else None


@pytest.mark.parametrize("shards", [1, 2, 3, 5])
@pytest.mark.parametrize("mode", MODES)
def test_the_served_answer_is_the_in_process_one(rig: Rigs, index: Index, shards: int, mode: str) -> None:
    client = rig(shards=shards).client
    for id in ("i0000", "i0027", ODD):
        asked = {"top": 7, "mode": mode, **HOW[mode]}
        reply = client.post("/v1/search", json={"id": id, **asked})
        hits = index.search(id=id, **asked)
        assert found(reply) == expected(hits)
        told = reply.json()
        assert told["shards"] == {"answered": shards, "total": shards}
        assert told["query"]["id"] == id
        assert told["query"]["tokens"] == 6
        row = index.items().to_pylist()[index.row(hits[0].id)]
        assert told["hits"][0]["columns"] == {
            name: row[name] for name in ("body", "lat", "lon", "diameter_km", "seen", "fresh")
        }
        for hit, answer in zip(hits, told["hits"], strict=True):
            assert answer["explanation"] == explained(hit, asked)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("mode", MODES)
def test_a_query_is_joined_by_its_first_hits_whatever_shard_has_them(
    rig: Rigs, index: Index, shards: int, mode: str
) -> None:
    client = rig(shards=shards).client
    asked = {"top": 7, "mode": mode, "expand": 2, **HOW[mode]}
    by_id = client.post("/v1/search", json={"id": "i0027", **asked})
    by_image = client.post(
        "/v1/search", files={"image": ("a.png", png(), "image/png")}, data={"request": json.dumps(asked)}
    )
    for reply, hits in (
        (by_id, index.search(id="i0027", **asked)),
        (by_image, index.search(png(), **asked)),
    ):
        assert found(reply) == expected(hits)
        told = reply.json()
        assert told["query"]["tokens"] == 6
        for hit, answer in zip(hits, told["hits"], strict=True):
            assert answer["explanation"] == explained(hit, asked)
    assert found(by_id) != found(client.post("/v1/search", json={"id": "i0027", **asked, "expand": 0}))


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("mode", MODES)
def test_an_image_is_answered_as_in_process(rig: Rigs, index: Index, shards: int, mode: str) -> None:
    reply = rig(shards=shards).client.post(
        "/v1/search",
        files={"image": ("a.png", png(), "image/png")},
        data={"request": json.dumps({"top": 5, "mode": mode, **HOW[mode]})},
    )
    assert found(reply) == expected(index.search(png(), top=5, mode=mode, **HOW[mode]))
    assert {"decode", "encode", "search", "total"} <= set(reply.json()["seconds"])
    where = reply.json()["query"]["where"]
    if mode == "shortlist-only":
        assert where is None
        return
    assert where["grid"] == {"rows": 4, "columns": 4}
    places = index.local.places(index.pixels(png()), "query")
    np.testing.assert_allclose(where["places"], places)


def close(item: dict[str, Any]) -> bool:
    """Whether it lies within 900 km of 30° south and west, on its own body."""
    places = np.radians([[-30.0, -30.0], [item["lat"], item["lon"]]])
    lat, lon = places.T
    here, there = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], 1)
    radius = {"moon": 1737.4, "mars": 3396.19}[item["body"]]
    return bool(radius * np.arccos(min(1.0, here @ there)) <= 900)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("asked", "passes"),
    [
        ({"filters": [{"column": "body", "any_of": ["mars"]}]}, lambda c: c["body"] == "mars"),
        (
            {"filters": [{"column": "diameter_km", "min": 10, "max": 20}]},
            lambda c: 10 <= (c["diameter_km"] or 0) <= 20,
        ),
        ({"filters": [{"column": "seen", "any_of": [1, 2, 30]}]}, lambda c: c["seen"] in (1, 2, 30)),
        ({"filters": [{"column": "id", "any_of": ["i0001"]}]}, lambda c: c["id"] == "i0001"),
        (
            {"box": {"west": 150, "south": -40, "east": -150, "north": 0}},
            lambda c: abs(c["lon"]) >= 150 and c["lat"] <= 0,
        ),
        ({"box": {"west": -180, "south": -20, "east": 180, "north": -10}}, lambda c: -20 <= c["lat"] <= -10),
        ({"near": {"lat": -30, "lon": -30, "km": 900}}, close),
    ],
)
def test_filters_go_into_the_shortlist(
    rig: Rigs, index: Index, shards: int, mode: str, asked: dict[str, Any], passes: Callable[[Any], bool]
) -> None:
    mask = np.array([passes(row) for row in index.items().to_pylist()])
    assert mask.any()
    row = index.row("i0009")
    vectors, tokens = index.stored(np.array([row]))
    few = {"candidates": 4} if mode == "shortlist" else {}
    mask[row] = False
    hits = index.local.answer(Queries(vectors, tokens, mask=mask), SearchRequest(top=4, mode=mode, **few))
    reply = rig(shards=shards).client.post(
        "/v1/search", json={"id": "i0009", "top": 4, "mode": mode, **few, **asked}
    )
    assert found(reply) == expected(hits)
    told = reply.json()
    how = {"mode": mode, "candidates": few.get("candidates"), "expand": 0, "top": 4}
    assert {name: told[name] for name in how} == how
    assert told["index"]["version"] == 2
    assert told["box"] == asked.get("box")
    assert told["near"] == asked.get("near")
    assert [{k: v for k, v in one.items() if v is not None} for one in told["filters"]] == asked.get(
        "filters", []
    )


def test_a_batch_answers_each_in_turn_and_says_which_it_cannot(rig: Rigs, index: Index) -> None:
    client = rig(shards=2).client
    reply = client.post("/v1/search/batch", json={"ids": ["i0001", "nobody", "i0002"], "top": 2}).json()
    first, second, third = reply["replies"]
    assert second["status"] == 404
    for answer, id in ((first, "i0001"), (third, "i0002")):
        assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in index.search(id=id, top=2)]
    images = [("images", ("a.png", png(5), "image/png")), ("images", ("b.png", b"no", "image/png"))]
    good, bad = client.post("/v1/search/batch", files=images).json()["replies"]
    assert good["hits"][0]["id"] == index.search(png(5))[0].id
    assert (bad["status"], "cannot be used" in bad["detail"]) == (422, True)


@pytest.mark.parametrize("shards", [1, 2, 3])
@pytest.mark.parametrize("limit", [1, 4, 20, 100])
def test_pages_of_items_are_the_items(rig: Rigs, index: Index, shards: int, limit: int) -> None:
    client, cursor, rows = rig(shards=shards).client, None, []
    while True:
        params = {"limit": limit, "columns": "lat,seen", "filters": '[{"column":"body","any_of":["moon"]}]'}
        page = client.get("/v1/items", params=params | ({"cursor": cursor} if cursor else {})).json()
        assert page["columns"] == ["id", "group", "lat", "seen"]
        assert len(page["rows"]) <= limit
        rows += page["rows"]
        cursor = page["next"]
        if cursor is None:
            break
    table = [row for row in index.items().to_pylist() if row["body"] == "moon"]
    assert sorted(rows) == sorted([row["id"], row["group"], row["lat"], row["seen"]] for row in table)
    assert page["total"] == len(table)


def test_an_item_its_image_and_the_places_of_its_tokens(rig: Rigs, index: Index) -> None:
    client = rig(shards=3).client
    for id in ("i0021", ODD):
        item = client.get("/v1/items/" + _quoted(id)).json()
        assert (item["id"], item["group"]) == (id, index.groups[index.row(id)])
        reply = client.get(item["image"])
        shown = np.asarray(Image.open(io.BytesIO(reply.content)))
        np.testing.assert_array_equal(shown, index.image(id))
        assert reply.headers["content-type"] == "image/png"
        same = client.get(item["image"], headers={"if-none-match": reply.headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")
        small = client.get(item["image"], params={"size": 16})
        assert max(Image.open(io.BytesIO(small.content)).size) == 16
        where = client.get(item["image"].replace("/image", "/tokens")).json()["where"]
        np.testing.assert_allclose(where["places"], index.local.places(index.image(id), "gallery"))
    lost = client.get("/v1/items/i0007/image")
    assert (lost.status_code, "tape is lost" in lost.json()["detail"]) == (422, True)


def test_the_index_says_what_can_be_filtered(rig: Rigs, index: Index) -> None:
    told = rig(shards=2).client.get("/v1/index").json()
    assert (told["items"], told["version"], told["published"]) == (len(index), 2, [1, 2])
    columns = {column["name"]: column for column in told["columns"]}
    assert columns["body"]["values"] == ["mars", "moon"]
    assert (columns["lat"]["min"], columns["lat"]["max"]) == (-40.0, 2.0)
    assert columns["fresh"]["type"] == "boolean"
    assert told["config"]["k"] == 6


def test_a_version_is_answered_from_what_it_holds(rig: Rigs, root: Any) -> None:
    old, pinned = rig(version=1).client, Index(root, 1, threads=1)
    reply = old.post("/v1/search", json={"id": "i0001", "top": 50, "mode": "exact"})
    assert found(reply) == expected(pinned.search(id="i0001", top=50, mode="exact"))
    assert reply.json()["index"]["version"] == 1
    assert old.post("/v1/search", json={"id": "i0040"}).status_code == 404


def test_a_shard_that_is_gone_is_told_of_and_refused_when_strict(rig: Rigs, index: Index) -> None:
    made = rig(shards=3, retries=2)
    lost = 1
    here = made.shards[lost].thing.held[2].index.ids
    asked = {"id": next(id for id in index.ids if id not in here), "top": 43, "mode": "exact"}
    made.shards[lost].failing["search"] = [ConnectionError("dead")] * 9
    reply = made.client.post("/v1/search", json=asked)
    assert reply.json()["shards"] == {"answered": 2, "total": 3}
    left = [hit.id for hit in index.search(id=asked["id"], top=43, mode="exact") if hit.id not in here]
    assert [hit["id"] for hit in reply.json()["hits"]] == left
    assert made.shards[lost].calls.count("search") == 3
    strict = made.client.post("/v1/search", json={**asked, "strict": True})
    assert (strict.status_code, strict.headers["retry-after"]) == (503, "2")
    assert "2 of 3" in strict.json()["detail"]


def test_a_retry_hides_a_death_and_a_version_not_yet_there(rig: Rigs, index: Index) -> None:
    made = rig(shards=1)
    made.shards[0].failing["search"] = [NotHeld("not yet"), ConnectionError("dead")]
    reply = made.client.post("/v1/search", json={"id": "i0001", "strict": True})
    assert [hit["id"] for hit in reply.json()["hits"]] == [hit.id for hit in index.search(id="i0001")]
    made.shards[0].failing["search"] = [Busy("full")]
    busy = made.client.post("/v1/search", json={"id": "i0001"})
    assert (busy.status_code, busy.headers["retry-after"]) == (503, "2")
    assert made.shards[0].calls.count("search") == 4  # a full queue is not asked again


def test_an_item_of_a_lost_shard_is_not_unknown(rig: Rigs) -> None:
    made = rig(shards=2, retries=0)
    for shard in made.shards:
        shard.failing["place"] = [ConnectionError("dead")]
    assert made.client.get("/v1/items/i0001").status_code == 503
    assert made.client.get("/v1/items/nobody").status_code == 404


def test_ready_is_when_every_shard_holds_the_version(rig: Rigs) -> None:
    made = rig(shards=2, token=False)
    assert made.client.get("/readyz").json()["ready"] is True
    made.shards[1].thing.hold([1])
    reply = made.client.get("/readyz")
    assert (reply.status_code, reply.json()["shards"]) == (503, {"answered": 1, "total": 2})
    assert made.client.get("/healthz").status_code == 200


def _quoted(id: str) -> str:
    from urllib.parse import quote

    return quote(id, safe="")


def test_the_command_line_filters_as_http_does(
    rig: Rigs, index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    from crater_ray.cli import app

    for options, asked in (
        (["--filter", "seen=1,2,30"], {"filters": [{"column": "seen", "any_of": [1, 2, 30]}]}),
        (["--filter", "seen=:7"], {"filters": [{"column": "seen", "max": 7}]}),
        (["--near", "-30,-30,900"], {"near": {"lat": -30, "lon": -30, "km": 900}}),
        (["--box=-180,-20,180,-10"], {"box": {"west": -180, "south": -20, "east": 180, "north": -10}}),
    ):
        app(
            ["query", str(index.root), "--id", "i0009", "--top", "4", "--json", *options],
            standalone_mode=False,
        )
        hits = json.loads(capsys.readouterr().out)[0]["hits"]
        reply = rig().client.post("/v1/search", json={"id": "i0009", "top": 4, **asked})
        assert [hit["id"] for hit in hits] == [hit["id"] for hit in reply.json()["hits"]]
        assert hits
    with pytest.raises(QueryError, match="no column 'colour'; there are: "):
        index.search(SearchRequest(id="i0009", filters=(Filter(column="colour", max=1),)))
    with pytest.raises(QueryError, match="version 1 is asked for, and version 2 is open"):
        index.search(id="i0009", version=1)
