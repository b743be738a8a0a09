"""What may not be answered, and how it is refused: a problem document, no trace, the service as before."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crater_ray.errors import DamagedIndex
from crater_ray.serve.gate import SECURITY
from crater_ray.serve.searcher import Searcher
from crater_ray.serve.shards import spread

Rigs = Callable[..., Any]


def painted(mode: str = "RGB", form: str = "PNG", **save: Any) -> bytes:
    noise = np.random.default_rng(1).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    image = Image.fromarray(noise)
    if mode == "I;16":
        image = Image.fromarray(noise[:, :, 0].astype(np.uint16) * 257)
    elif mode != "RGB":
        image = image.convert(mode)
    data = io.BytesIO()
    image.save(data, form, **save)
    return data.getvalue()


def bomb(side: int = 60_000) -> bytes:
    """A few bytes of PNG that say they are 3.6 Gpixel."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 9999))
        + chunk(b"IEND", b"")
    )


def send(client: Any, image: bytes, kind: str = "image/png", **options: Any) -> Any:
    return client.post(
        "/v1/search", files={"image": ("x", image, kind)}, data={"request": json.dumps(options)}
    )


def refused(reply: Any, status: int, said: str = "") -> None:
    told = reply.json()
    assert (reply.status_code, told["status"]) == (status, status), reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert said in told["detail"]
    assert told["request_id"] == reply.headers["x-request-id"]
    assert not any(word in reply.text for word in ("Traceback", 'File "', "/site-packages", "/tmp/", ".py"))
    assert all(reply.headers[name] == value for name, value in SECURITY.items())


@pytest.mark.parametrize(
    "given",
    [None, "", "Bearer", "Bearer wrong", "Bearer a token of more than sixtee", "Basic a token"],
)  # fmt: skip
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/search"), ("GET", "/v1/index"), ("PUT", "/v1/index/version")]
)
def test_no_token_and_a_wrong_one(rig: Rigs, given: str | None, method: str, path: str) -> None:
    client = rig().client
    del client.headers["authorization"]
    headers = {} if given is None else {"authorization": given}
    reply = client.request(method, path, json={"id": "i0001"}, headers=headers)
    refused(reply, 401)
    assert reply.headers["www-authenticate"].startswith("Bearer")


def test_a_body_too_long_by_its_own_word_and_by_what_arrives(rig: Rigs) -> None:
    client = rig(max_bytes=10_000).client
    refused(client.post("/v1/search", content=b"x" * 100_000_000), 413, "at most 10000")

    def drip() -> Any:
        for _ in range(11):
            yield b"x" * 1000

    refused(client.post("/v1/search", content=drip()), 413, "10000")
    refused(client.post("/v1/search", content=b"", headers={"content-length": "many"}), 400)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (bomb(), "pixels"),
        (painted()[:300], "truncated"),
        (b"", "empty"),
        (b"GIF89a", "truncated"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "known format"),
        (painted("RGB", "PNG")[:8] + b"\0" * 50, "truncated"),
    ],
)
def test_an_image_that_cannot_be_used(rig: Rigs, image: bytes, said: str) -> None:
    refused(send(rig().client, image), 422, said)


@pytest.mark.parametrize(
    "image",
    [
        painted("I;16"),
        painted("CMYK", "JPEG"),
        painted("P"),
        painted("1"),
        painted("LA"),
        painted("RGB", "GIF", save_all=True, append_images=[Image.new("RGB", (40, 40))], loop=0),
        painted("RGB", "PNG", save_all=True, append_images=[Image.new("RGB", (40, 40))]),
        painted("RGB", "WEBP"),
        painted("RGB", "TIFF"),
    ],
    ids=["16 bit", "CMYK", "palette", "1 bit", "grey and alpha", "GIF", "APNG", "WebP", "TIFF"],
)
def test_an_odd_image_is_an_image(rig: Rigs, image: bytes, index: Any) -> None:
    reply = send(rig().client, image, "application/octet-stream", top=3)
    assert [hit["id"] for hit in reply.json()["hits"]] == [hit.id for hit in index.search(image, top=3)]


def test_a_wrong_content_type(rig: Rigs) -> None:
    client = rig().client
    for kind in ("text/plain", "", "application/x-www-form-urlencoded", "image/png"):
        refused(client.post("/v1/search", content=b"{}", headers={"content-type": kind}), 415)
    refused(send(client, painted(), "text/html"), 415)
    refused(client.put("/v1/index/version", content=b"{}", headers={"content-type": "text/plain"}), 415)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"nul", b"\xff\xfe", b"[" * 100_000, b'{"id": NaN}', b'{"id": 7}']
)
def test_a_body_that_is_not_what_it_says(rig: Rigs, content: bytes) -> None:
    client = rig().client
    reply = client.post("/v1/search", content=content, headers={"content-type": "application/json"})
    refused(reply, reply.status_code if reply.status_code in (400, 422) else 400)
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
        reply = client.post("/v1/search", content=content, headers={"content-type": kind})
        refused(reply, 422 if not content and "=" in kind else 400)


@pytest.mark.parametrize(
    "asked",
    [
        {"top": 0}, {"top": -1}, {"top": 10**9}, {"top": "many"}, {"top": None}, {"top": 1.5},
        {"candidates": 0}, {"candidates": 10**9}, {"mode": "guess"}, {"strict": "perhaps"}, {"topp": 3},
        {"mode": "shortlist-only", "candidates": 9}, {"mode": "shortlist-only", "explain": True},
        {"expand": -1}, {"expand": 11},
        {"filters": [{"column": "body"}]}, {"filters": [{"column": "body", "any_of": []}]},
        {"filters": [{"column": "body", "any_of": ["moon"], "min": 1}]}, {"filters": {"body": "moon"}},
        {"filters": [{"column": "nothing", "min": 1}]}, {"filters": [{"column": "body", "min": 1}]},
        {"filters": [{"column": "lat", "any_of": ["north"]}]},
        {"filters": [{"column": "uri", "any_of": ["1"]}]},
        {"filters": [{"column": "fresh", "min": 0}]}, {"filters": [{"column": "lat", "min": float("inf")}]},
        {"filters": [{"column": "body", "any_of": ["x"]}] * 17},
        {"box": {"west": 0, "south": 10, "east": 1, "north": 0}}, {"box": {"west": 0}}, {"box": [0, 0, 1, 1]},
        {"box": {"west": -999, "south": 0, "east": 1, "north": 1}}, 
        {"id": ""}, {"id": "x" * 513}, {"id": None},
    ],
    ids=str,
)  # fmt: skip
def test_a_value_out_of_bounds(rig: Rigs, asked: dict[str, Any]) -> None:
    client = rig(shards=2).client
    content = json.dumps({"id": "i0001", **asked})
    refused(client.post("/v1/search", content=content, headers={"content-type": "application/json"}), 422)
    if "id" not in asked:
        refused(send(client, painted(), **json.loads(json.dumps(asked))), 422)


@pytest.mark.parametrize(
    "id",
    [
        "nobody",
        "../../etc/passwd",
        "..",
        "'; DROP TABLE items; --",
        '"',
        "i0001\0",
        "<b>",
        "é",
        "i0001 ",
        "%",
    ],
)
def test_an_unknown_id_is_only_ever_looked_up(rig: Rigs, id: str) -> None:
    client = rig(shards=2).client
    refused(client.post("/v1/search", json={"id": id}), 404)
    if id != "..":
        for end in ("", "/image", "/tokens"):
            from urllib.parse import quote

            refused(client.get(f"/v1/items/{quote(id, safe='')}{end}"), 404)


@pytest.mark.parametrize(
    "params",
    [
        {"limit": 0}, {"limit": 10**9}, {"limit": "x"}, {"cursor": "x"}, {"cursor": "-1.0"},
        {"cursor": "0.0.0"}, {"columns": "nothing"}, {"columns": "uri"}, {"filters": "{"},
        {"filters": '[{"column":"nope","min":1}]'}, {"box": "1,2,3"}, {"box": "a,b,c,d"}, {"box": "0,9,0,1"},
        {"near": "1,2"}, {"near": "95,0,1"}, {"near": "0,0,0"}, {"near": "a,b,c"},
        {"filters": "[" + ",".join(['{"column":"lat","min":1}'] * 17) + "]"},
    ],
    ids=str,
)  # fmt: skip
def test_a_page_that_cannot_be_had(rig: Rigs, params: dict[str, Any]) -> None:
    refused(rig(shards=2).client.get("/v1/items", params=params), 422)
    assert rig(shards=2).client.get("/v1/items", params={"cursor": "9.999"}).json()["rows"] == []


def test_a_refusal_is_in_our_own_words_and_names_the_part(rig: Rigs) -> None:
    client = rig().client
    box = {"west": 0, "south": 10, "east": 1, "north": 0}
    told = client.post("/v1/search", json={"id": "i0001", "box": box}).json()["detail"]
    assert told == "box: south lies above north"
    reply = client.post("/v1/search", files={"image": ("x", painted())}, data={"request": "{top}"})
    refused(reply, 400, "request, a part of the form, is not JSON")


def test_paths_and_methods_that_are_not_there(rig: Rigs) -> None:
    client = rig().client
    for path in ("/v1/nothing", "/v1/", "/v1/search/", "/v1/../etc/passwd", "/nothing", "/../gate.py"):
        refused(client.get(path), 404)
    refused(client.get("/v1/nothing"), 404, "no such route; /docs lists every one")
    reply = client.get("/v1/search")
    refused(reply, 405, "not by this method; allowed: POST")
    assert reply.headers["allow"] == "POST"


def test_a_version_deleted_under_the_service(painted_copy: Path, rig: Rigs) -> None:
    made = rig(where=painted_copy)
    before = made.client.post("/v1/search", json={"id": "i0001"}).json()["hits"]
    (painted_copy / "versions" / "2.json").unlink()
    assert made.client.post("/v1/search", json={"id": "i0001"}).json()["hits"] == before
    told = made.client.get("/v1/index").json()
    assert (told["version"], told["published"]) == (2, [1])


@pytest.mark.parametrize("name", ["codes.bin", "vectors.npy", "scales.npy", "items.parquet"])
def test_a_file_corrupted_before_the_start_is_named_and_never_served(painted_copy: Path, name: str) -> None:
    file = sorted(painted_copy.glob(f"parts/*/{name}"))[1]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    broken = file.parent.name.partition(".")[0]
    for shard in range(3):
        searcher = Searcher(painted_copy, shard, 3, threads=1)
        shas = spread(painted_copy, 2, 3)[shard]
        segments = [
            json.loads((painted_copy / "segments" / sha / "segment.json").read_text()) for sha in shas
        ]
        if any(part[0] == broken for segment in segments for part in segment["parts"]):
            with pytest.raises(DamagedIndex, match=name.replace(".", r"\.")):
                searcher.hold([2])
            assert not searcher.holds(2)
        else:
            searcher.hold([2])
