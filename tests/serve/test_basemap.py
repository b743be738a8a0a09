"""Base maps: one, or one a body; what is no picture is refused before the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from crater_ray.config import ServeTable, load_job
from crater_ray.errors import ConfigError
from crater_ray.serve.basemap import read_maps

WHOLE = {"west": -180.0, "south": -90.0, "east": 180.0, "north": 90.0}


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, Path]:
    named = {"moon": tmp_path / "moon.png", "mars": tmp_path / "mars & co.jpg"}
    for grey, path in enumerate(named.values()):
        Image.new("L", (8, 4), 80 * grey).save(path)
    return named


def test_one_image_is_of_any_body(rig: Any, pictures: dict[str, Path]) -> None:
    client = rig(basemaps=read_maps(ServeTable(basemap=pictures["moon"]))).client
    told = client.get("/v1/index").json()["basemaps"]
    assert told == [{"url": "/v1/basemap", "body": None, "width": 8, "height": 4, **WHOLE}]
    answer = client.get(told[0]["url"])
    assert answer.content == pictures["moon"].read_bytes()
    assert answer.headers["content-type"] == "image/png"
    assert client.get("/v1/basemap?body=mars").status_code == 404


def test_one_image_a_body(rig: Any, pictures: dict[str, Path]) -> None:
    client = rig(basemaps=read_maps(ServeTable(basemap=pictures))).client
    told = client.get("/v1/index").json()["basemaps"]
    assert [one["body"] for one in told] == ["moon", "mars"]
    for one in told:
        assert client.get(one["url"]).content == pictures[one["body"]].read_bytes()
    assert client.get("/v1/basemap?body=venus").json()["detail"].startswith("no base map of that body")


def test_none(rig: Any) -> None:
    client = rig().client
    assert client.get("/v1/index").json()["basemaps"] == []
    assert client.get("/v1/basemap").json()["detail"] == "no base map is named in [serve]"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"basemap": Path(__file__)}, "no JPEG, PNG or WebP image"),
        ({"basemap": {"moon": Path("gone.png")}}, "no JPEG, PNG or WebP image"),
        (
            {"basemap": Path(__file__), "basemap_box": (10.0, -90.0, -10.0, 90.0)},
            "write west, south, east, north",
        ),
    ],
)
def test_what_cannot_be_shown_is_refused(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_maps(ServeTable(**table))


def test_paths_are_read_against_the_job_file(tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text(
        'out = "out"\n[reader]\nname = "folder"\nroot = "images"\n[backbone]\nname = "timm"\nmodel = "vit"\n'
        '[serve.basemap]\nmoon = "maps/moon.png"\n'
    )
    assert load_job(job).serve.basemap == {"moon": tmp_path / "maps" / "moon.png"}
