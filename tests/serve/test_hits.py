"""Hits on the index of places that these tests have: columns, tables, maps, files, pictures."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import pandas as pd
import pyarrow.parquet as pq
import pyogrio
import pytest
from PIL import Image
from rich.console import Console

from crater_ray import Filter, Hits, Near, Place, SearchRequest
from crater_ray.cli import app, main
from crater_ray.errors import QueryError, UserError
from crater_ray.plugins import registry
from crater_ray.retrieve import Index
from crater_ray.types import Hit

MOON = (Filter(column="body", any_of=["moon"]),)


def query(index: Index, *words: str) -> None:
    app(["query", str(index.root), *words], standalone_mode=False)


@pytest.fixture
def hits(index: Index) -> Hits:
    return index.search(id="i0010", top=4, filters=MOON)


def test_hits_are_a_list_that_knows_columns_and_places(hits: Hits, index: Index) -> None:
    assert isinstance(hits, list)
    assert len(hits) == 4
    assert hits.index(hits[2]) == 2
    assert isinstance(hits[:2], Hits)
    assert hits[:2] == list(hits)[:2]
    assert len({*hits}) == 4
    first = hits[0]
    row = index.items().to_pylist()[index.row(first.id)]
    assert first.columns == {name: row[name] for name in row if name not in ("id", "group", "uri", "stamp")}
    assert first.place == (row["lat"], row["lon"])
    [unknown] = index.search(id="i0010", filters=(Filter(column="id", any_of=["i0005"]),))
    assert unknown.columns["diameter_km"] is None


def test_distances_are_from_the_query_s_place_on_its_body(index: Index) -> None:
    hits = index.search(id="i0010", top=42)
    assert {hit.columns["body"] for hit in hits} == {"moon", "mars"}
    away = {hit.id: hits.distance_km(hit) for hit in hits}
    assert 0 < (away["i0011"] or 0) < 500
    assert away["i0009"] is None  # on Mars
    near = Near(lat=-30.0, lon=-30.0, km=900)
    close = index.search(id="i0010", top=42, near=near, filters=MOON)
    assert {hit.id for hit in close} == {id for id, km in away.items() if km is not None and km <= 900}


def test_hits_as_frames_and_as_points(hits: Hits, index: Index) -> None:
    frame = hits.to_pandas()
    assert list(frame.columns) == [
        *("rank", "score", "id", "group", "body", "lat", "lon", "diameter_km", "seen", "fresh", "distance_km")
    ]
    assert frame["id"].tolist() == [hit.id for hit in hits]
    points = hits.to_geodataframe()
    assert points.crs == "IAU_2015:30100"
    assert [(point.y, point.x) for point in points.geometry] == [hit.place for hit in hits]
    assert index.search(id="i0010", top=9).to_geodataframe().crs is None  # the Moon and Mars


@pytest.mark.parametrize("suffix", ["csv", "parquet", "geojson", "gpkg"])
def test_a_file_by_its_suffix(index: Index, tmp_path: Path, suffix: str, capsys: Any) -> None:
    out = tmp_path / f"hits.{suffix}"
    query(index, "--id", "i0010", "--id", "i0011", "--top", "3", "--filter", "body=moon", "--out", str(out))
    rows: Sequence[Any]
    if suffix == "csv":
        rows = list(csv.DictReader(io.StringIO(out.read_text())))
    elif suffix == "parquet":
        rows = pq.read_table(out).to_pylist()
    else:
        found = geopandas.read_file(out)
        assert "Moon (2015) - Sphere / Ocentric" in found.crs.name
        assert found.geometry.iloc[0].x == found["lon"].iloc[0]
        rows = found.to_dict("records")
        assert pyogrio.list_layers(out)[0][0] == "hits"
    assert [(row["query"], int(row["rank"])) for row in rows] == [
        (id, rank) for id in ("i0010", "i0011") for rank in (1, 2, 3)
    ]
    assert rows[0]["id"] == "i0011"
    assert float(rows[0]["distance_km"]) > 0
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_two_bodies_are_two_layers_and_no_geojson(index: Index, tmp_path: Path, capsys: Any) -> None:
    query(index, "--id", "i0010", "--out", str(tmp_path / "hits.gpkg"))
    layers = {name for name, _ in pyogrio.list_layers(tmp_path / "hits.gpkg")}
    assert layers == {"hits_moon", "hits_mars"}
    with pytest.raises(QueryError, match=r"these lie on several bodies; name a \.gpkg file"):
        query(index, "--id", "i0010", "--out", str(tmp_path / "hits.geojson"))
    with pytest.raises(QueryError, match=r"hits\.xlsx: name a file that ends in \.csv, \.parquet, "):
        query(index, "--id", "i0010", "--out", str(tmp_path / "hits.xlsx"))
    with pytest.raises(UserError, match="is a folder; name a file"):
        query(index, "--id", "i0010", "--out", str(tmp_path))


def test_no_hits_are_a_table_too(index: Index, tmp_path: Path, capsys: Any) -> None:
    for suffix in ("csv", "parquet", "geojson", "gpkg"):
        query(index, "--id", "i0010", "--filter", "seen>=900", "--out", str(tmp_path / f"none.{suffix}"))
        assert "no hits: the index has no other item, or none passes" in capsys.readouterr().out
    some = [*index.search(id="i0010", top=2).to_pandas().columns]
    assert (tmp_path / "none.csv").read_text() == ",".join(f'"{name}"' for name in ["query", *some]) + "\n"
    none = pd.read_parquet(tmp_path / "none.parquet")
    assert (list(none.columns), len(none)) == (["query", *some], 0)


@pytest.mark.parametrize("suffix", ["geojson", "gpkg"])
def test_no_hits_keep_columns_and_coordinates(index: Index, tmp_path: Path, suffix: str) -> None:
    none = index.search(id="i0010", filters=(*MOON, Filter(column="seen", min=900)))
    some = index.search(id="i0010", filters=MOON)
    assert none.to_arrow().schema == some.to_arrow().schema
    assert none.to_geodataframe().crs == some.to_geodataframe().crs == "IAU_2015:30100"
    written = geopandas.read_file(none.save(tmp_path / f"none.{suffix}"))
    assert "Moon (2015)" in written.crs.name
    if suffix == "gpkg":  # a GeoJSON has columns only in its features
        assert list(written.columns) == list(some.to_geodataframe().columns)
    both = index.search(id="i0010", filters=(Filter(column="seen", min=900),))
    assert both.to_geodataframe().crs is None  # the Moon or Mars: nobody says


def hit(id: str, **columns: Any) -> Hit:
    return Hit(1, id, id, 0.5, (), columns)


def test_layers_are_by_body_whatever_its_case_and_whatever_lacks(tmp_path: Path) -> None:
    hits = Hits(
        [
            hit("a", body="Moon", lat=1.0, lon=2.0),
            hit("b", body="moon", lat=3.0, lon=4.0),
            hit("c", body=None, lat=5.0, lon=6.0),
            hit("d", body="", lat=7.0, lon=8.0),
            hit("e", body="Mars", lat=None, lon=None),
            hit("f", lat=9.0, lon=10.0),
        ]
    )
    path = hits.save(tmp_path / "hits.gpkg")
    layers = {name: geopandas.read_file(path, layer=name) for name, _ in pyogrio.list_layers(path)}
    assert {name: found["id"].tolist() for name, found in layers.items()} == {
        "hits_moon": ["a", "b"],
        "hits": ["c", "d", "f"],
        "hits_mars": ["e"],
    }
    assert "Moon (2015)" in layers["hits_moon"].crs.name
    assert "Mars (2015)" in layers["hits_mars"].crs.name
    assert layers["hits_mars"].geometry.isna().all()
    with pytest.raises(QueryError, match="these lie on several bodies"):
        hits.save(tmp_path / "hits.geojson")
    one = Hits([hits[0], hits[1], hits[4]])  # the one of Mars has no place on a map
    assert "Moon (2015)" in geopandas.read_file(one.save(tmp_path / "one.geojson")).crs.name
    with pytest.raises(QueryError, match="no columns lat and lon"):
        Hits([hits[4]]).save(tmp_path / "none.gpkg")


def test_a_reader_s_columns_may_be_called_as_ours(tmp_path: Path) -> None:
    own = {"lat": 1.0, "LAT": "x", "fid": 7, "geometry": "round", "Score": 3, "query": "q", "of": [1, 2]}
    hits = Hits([hit("a", body="moon", **own)])
    assert hits.to_pandas().columns.tolist() == [
        *("rank", "score", "id", "group", "body", "lat", "item_LAT", "item_fid", "item_geometry"),
        *("item_Score", "item_query", "of"),
    ]
    hits = Hits([hit("a", body="moon", lon=2.0, **own)])
    for suffix in ("gpkg", "geojson", "csv"):
        hits.save(tmp_path / f"hits.{suffix}")
    assert geopandas.read_file(tmp_path / "hits.gpkg")["item_fid"].tolist() == [7]


def test_a_distance_is_of_one_body(index: Index) -> None:
    class Source:
        """An index whose query item says of no body, as some catalogues do."""

        def __init__(self, body: str | None) -> None:
            self.local, self.body = self, body

        def row(self, id: str) -> int:
            return 0

        def columns(self, rows: Any) -> list[dict[str, Any]]:
            return [{"body": self.body, "lat": 0.0, "lon": 0.0}]

    there = hit("a", body="moon", lat=0.0, lon=1.0)
    away = {body: Hits([there], Source(body), SearchRequest(id="q")) for body in ("Moon", "mars", None)}  # type: ignore[arg-type]
    found = {body: hits.distance_km(there) for body, hits in away.items()}
    assert found["Moon"] == pytest.approx(30.32, abs=0.01)
    assert found["mars"] is found[None] is None
    near = Hits([there], request=SearchRequest(id="q", near=Near(lat=0, lon=2, km=90)))
    assert near.distance_km(there) == found["Moon"]
    own = index.search(id="i0010", top=3, filters=MOON)
    far = index.search(id="i0010", top=3, filters=MOON, near=Near(lat=0, lon=0, km=9000))
    assert far.distance_km(own[0]) == own.distance_km(own[0])  # the query's own place comes first


@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("gone/hits.csv", "cannot write {out}: name a file in a folder that is there"),
        ("file/hits.csv", "cannot write {out}: name a file in a folder that is there"),
        ("/proc/hits.csv", "cannot write {out}: "),
        ("s3://bucket/hits.csv", "s3://bucket/hits.csv: files are written on this machine"),
        ("https://host/hits.csv", "https://host/hits.csv: files are written on this machine"),
    ],
)
@pytest.mark.parametrize(
    "command", ["query --id i0010 --out", "query --id i0010 --sheet", "neighbours --out"]
)
def test_a_file_that_cannot_be_written_is_said_at_once(
    index: Index, tmp_path: Path, capsys: Any, monkeypatch: Any, command: str, out: str, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    name, *words = command.split()
    if name == "neighbours":
        out, why = out.replace("csv", "parquet"), why.replace("csv", "parquet")
        out = out.replace("gone", "file/gone")  # it makes folders
    with pytest.raises(SystemExit) as end:
        main([name, str(index.root), *words, out])
    assert end.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert why.format(out=out) in line
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_no_hits_on_a_map() -> None:
    assert len(Hits().to_geodataframe()) == 0


def test_the_command_prints_a_table_a_query(index: Index, capsys: Any) -> None:
    query(index, "--id", "i0010", "--id", "i0012", "--top", "2", "--near", "-29,-15,900")
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "i0010 (shortlist, 200 candidates, within 900 km of -29,-15, version 2)"
    assert told[1].split() == ["rank", "score", "id", "body", "lat", "lon", "diameter_km", "distance_km"]
    assert told[2].split()[0] == "1"
    assert told[4].startswith("i0012 (")
    widths = {len(line) for line in told[1:4]}
    assert len(widths) == 1


def test_json_says_how_it_was_asked(index: Index, capsys: Any) -> None:
    query(index, "--id", "i0010", "--top", "2", "--json", "--filter", "seen>=3", "--near", "-29,-15,900")
    [told] = json.loads(capsys.readouterr().out)
    assert told["filters"] == [{"column": "seen", "min": 3.0}]
    assert told["near"] == {"lat": -29.0, "lon": -15.0, "km": 900.0}
    assert (told["box"], told["mode"], told["top"]) == (None, "shortlist", 2)
    assert told["index"] == {"name": index.root.name, "version": 2}
    assert told["hits"][0]["columns"]["body"] == "moon"
    assert told["hits"][0]["distance_km"] > 0


def test_a_place_is_cut_by_the_reader_of_the_index(index: Index, tmp_path: Path, capsys: Any) -> None:
    place = Place(lat=-30.0, lon=-30.0, km=9.0, body="Moon")
    hits = index.search(place=place, top=42)
    assert hits[0].id == "i0010"  # whose view it is
    assert hits[0].score == pytest.approx(index.search(index.image("i0010"), top=1)[0].score)
    assert hits.distance_km(hits[0]) == 0.0
    assert {hits.distance_km(hit) for hit in hits if hit.columns["body"] == "mars"} == {None}
    assert hits.show(tmp_path / "sheet.png").size[0] > 200
    assert "-30,-30,9,Moon" in hits._repr_html_()
    query(
        index, "--place", "-30,-30,9,moon", "--id", "i0011", "--top", "2", "--out", str(tmp_path / "hits.csv")
    )
    told = capsys.readouterr().out.splitlines()
    assert (told[0].split(" (")[0], told[4].split(" (")[0]) == ("i0011", "-30,-30,9,moon")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "hits.csv").read_text())))
    assert [row["query"] for row in rows] == ["i0011"] * 2 + ["-30,-30,9,moon"] * 2


@pytest.mark.parametrize(
    ("place", "why"),
    [
        (Place(lat=-30, lon=-30, km=9), "place -30,-30,9 may be on mars, moon: add a body to it"),
        (Place(lat=-30, lon=-30, km=9, body="mars"), "place -30,-30,9,mars cannot be cut: no map of mars$"),
    ],
)
def test_a_place_that_cannot_be_cut_says_why(index: Index, place: Place, why: str) -> None:
    with pytest.raises(QueryError, match=why):
        index.search(place=place)


def test_a_reader_without_a_raster_cuts_no_place(root: Path, tmp_path: Path, monkeypatch: Any) -> None:
    index = Index(root, threads=1)
    folder = registry().ref("reader", "folder", {"root": str(tmp_path)}, base=tmp_path, where="the test")
    monkeypatch.setattr(index.snapshot, "version", replace(index.snapshot.version, readers=(folder,) * 3))
    with pytest.raises(QueryError, match="no place can be cut: reader folder has no raster; ask by an image"):
        index.search(place=Place(lat=0, lon=0, km=9))


def test_a_crop_asks_by_a_window_of_a_picture(index: Index, tmp_path: Path, capsys: Any) -> None:
    tile = Image.fromarray(index.image("i0010"))
    large = Image.new("RGB", (300, 200))
    large.paste(tile, (170, 60))
    large.save(tmp_path / "large.png")
    query(index, str(tmp_path / "large.png"), "--crop", f"170,60,{tile.width},{tile.height}", "--json")
    [told] = json.loads(capsys.readouterr().out)
    plain = index.search(index.image("i0010"))
    assert [(hit["id"], hit["score"]) for hit in told["hits"]] == [
        (hit.id, round(hit.score, 6)) for hit in plain
    ]
    with pytest.raises(
        QueryError, match=r"large.png: .* crop 290,0,20,20 is not inside its 300 × 200 pixels"
    ):
        query(index, str(tmp_path / "large.png"), "--crop", "290,0,20,20")


def test_text_rich_and_html(hits: Hits, index: Index) -> None:
    assert repr(hits).splitlines()[0] == "Hits (shortlist, 200 candidates, body=moon, version 2)"
    console = Console(width=120, file=io.StringIO())
    console.print(hits)
    assert hits[0].id in console.file.getvalue()  # type: ignore[attr-defined]
    html = hits._repr_html_()
    assert html.count("<img src=") == 1 + len(hits)
    odd = index.search(id="i0002", top=42)
    shown = odd._repr_html_()
    assert "<b>" not in shown  # one of its ids is made of HTML
    assert shown.count("<img src=") == 42  # the query's and the hits', but for the one that is lost
    assert Hits()._repr_html_().count("no hits") == 1
    assert repr(Hits([hits[0]])).splitlines()[1].split()[:3] == ["rank", "score", "id"]


def test_the_sheet(hits: Hits, index: Index, tmp_path: Path) -> None:
    sheet = hits.show(tmp_path / "sheet.png")
    assert isinstance(sheet, Image.Image)
    with Image.open(tmp_path / "sheet.png") as written:
        assert written.size == sheet.size
    picture = index.search(index.image("i0010"), top=2, explain=True)
    assert picture.show().size[0] > 200
    with pytest.raises(QueryError, match="do not say of which index"):
        Hits().show()


def test_an_index_says_what_it_holds(index: Index) -> None:
    told = repr(index)
    assert "version    2; published: 1, 2" in told
    assert "views      43: moon 28, mars 15" in told
    assert "tokens     instance_tokens: 6 × 16, int8, maxsim" in told
    assert "<th>views</th>" in index._repr_html_()


def test_the_core_does_without_geopandas(index: Index, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "class Without:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name in ('geopandas', 'pandas', 'pyogrio'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Without())\n"
        "from crater_ray import open_index\n"
        "from crater_ray.errors import QueryError\n"
        f"hits = open_index({str(index.root)!r}).search(id='i0010', top=3)\n"
        f"hits.save({str(tmp_path / 'a.csv')!r})\n"
        "for ask in (hits.to_pandas, hits.to_geodataframe, lambda: hits.save('a.gpkg')):\n"
        "    try: ask()\n"
        "    except QueryError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("pip install 'crater-ray[gis]'") == 3
    assert (tmp_path / "a.csv").read_text().startswith('"rank","score"')
