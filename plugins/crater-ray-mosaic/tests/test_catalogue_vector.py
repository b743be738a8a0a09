"""Vector catalogues: places and diameters out of geometry, through the layer's CRS, on the sphere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from pyproj import CRS

from crater_ray.errors import ReaderError
from crater_ray_mosaic.catalogue import PRESETS, Catalogue, Columns, Conventions, read_catalogue
from crater_ray_mosaic.catalogue.measures import Body

RADIUS = 1737.4
MOON = Body(RADIUS, 0.0)
SPHERE = CRS.from_user_input("IAU_2015:30100")
BARE = Columns(None, None, None, None)
PLACES = [(10.0, 20.0, 100.0), (-35.0, 179.9, 60.0), (89.5, 40.0, 80.0), (0.0, -75.0, 400.0)]


def circle(lat: float, lon: float, diameter: float, points: int = 720) -> shapely.Polygon:
    """A rim on the sphere, degrees; across the seam longitudes run on beyond 180."""
    angle, turn = diameter / 2 / RADIUS, np.linspace(0, 2 * np.pi, points, endpoint=False)
    phi = np.radians(lat)
    rim = np.arcsin(np.sin(phi) * np.cos(angle) + np.cos(phi) * np.sin(angle) * np.cos(turn))
    east = np.arctan2(np.sin(turn) * np.sin(angle) * np.cos(phi), np.cos(angle) - np.sin(phi) * np.sin(rim))
    return shapely.Polygon(np.column_stack([lon + np.degrees(east), np.degrees(rim)]))


def save(path: Path, shapes: list[Any], crs: Any = SPHERE, columns: Any = None, **more: Any) -> Path:
    with_columns = columns if columns is not None else {"name": [f"c{n}" for n in range(len(shapes))]}
    geopandas.GeoDataFrame(with_columns, geometry=shapes, crs=crs).to_file(path, engine="pyogrio", **more)
    return path


def read(path: Path, columns: Columns = BARE, said: Conventions | None = None, **more: Any) -> Catalogue:
    return read_catalogue(path, columns, said or Conventions(), **({"body": MOON} | more))


@pytest.mark.parametrize("suffix", ["gpkg", "shp", "geojson", "fgb"])
def test_outlines_give_place_and_diameter(tmp_path: Path, suffix: str) -> None:
    crs = "EPSG:4326" if suffix == "geojson" else SPHERE  # GeoJSON can say nothing else
    found = read(save(tmp_path / f"rims.{suffix}", [circle(*place) for place in PLACES], crs))
    order = np.argsort(-found.lat)  # FlatGeobuf sorts by place
    wanted = sorted(PLACES, reverse=True)
    np.testing.assert_allclose(found.lat[order], [lat for lat, _, _ in wanted], atol=2e-3)
    turned = (found.lon[order] - [lon for _, lon, _ in wanted] + 180) % 360 - 180
    assert np.abs(turned * np.cos(np.radians(found.lat[order]))).max() < 2e-3
    np.testing.assert_allclose(found.diameter[order], [width for _, _, width in wanted], rtol=2e-4)


def test_a_rim_cut_at_the_seam_and_a_closed_line_are_outlines(tmp_path: Path) -> None:
    whole = circle(-35.0, 179.9, 60.0)
    west, east = shapely.box(0, -90, 180, 90), shapely.box(180, -90, 360, 90)
    halves = [
        whole.intersection(west),
        shapely.transform(whole.intersection(east), lambda at: at - [360.0, 0.0]),
    ]
    line = shapely.LineString(circle(10, 20, 100).exterior.coords)
    found = read(save(tmp_path / "rims.gpkg", [shapely.MultiPolygon(halves), line]))
    np.testing.assert_allclose(found.lat, [-35, 10], atol=2e-3)
    np.testing.assert_allclose(found.lon, [179.9, 20], atol=2e-3)
    np.testing.assert_allclose(found.diameter, [60, 100], rtol=2e-4)


@pytest.mark.parametrize(
    "text",
    [
        "+proj=stere +lat_0=90 +R=1737400 +units=m +no_defs",
        "+proj=sinu +lon_0=40 +R=1737400 +no_defs",
        "+proj=eqc +lon_0=180 +lat_ts=30 +R=1737400 +no_defs",
        "+proj=longlat +pm=90 +R=1737400 +no_defs",
    ],
)
def test_the_crs_is_honoured(tmp_path: Path, text: str) -> None:
    plain = geopandas.GeoSeries([circle(*place) for place in PLACES[:1]], crs=SPHERE)
    found = read(save(tmp_path / "rims.gpkg", list(plain.to_crs(text)), text))
    assert (found.lat[0], found.lon[0]) == (pytest.approx(10, abs=2e-3), pytest.approx(20, abs=2e-3))
    assert found.diameter[0] == pytest.approx(100, rel=2e-4)


def test_latitudes_of_an_ellipsoid_become_planetocentric(tmp_path: Path) -> None:
    """IAU 49901 has planetographic latitudes, and counts longitude westward."""
    path = save(tmp_path / "p.fgb", [shapely.Point(20, 30)], "IAU_2015:49901", {"d": [50.0]})
    mars = Body(3396.19, 1 / 169.894447)
    columns = Columns(None, None, None, "d")
    wanted = np.degrees(np.arctan((1 - 1 / 169.894447) ** 2 * np.tan(np.radians(30))))
    found = read(path, columns, body=mars)
    assert (found.lat[0], found.lon[0]) == (pytest.approx(wanted, abs=1e-9), pytest.approx(-20, abs=1e-9))
    assert wanted == pytest.approx(29.708, abs=1e-3)
    kept = read(path, columns, Conventions(latitude="planetocentric"), body=mars)
    assert kept.lat[0] == pytest.approx(30.0, abs=1e-9)
    with pytest.raises(
        ReaderError, match=r"body of 3,396\.2 km, and the raster's has a radius of 1,737\.4 km"
    ):
        read(path, columns)


def test_points_need_a_diameter_column(tmp_path: Path) -> None:
    path = save(
        tmp_path / "p.gpkg", [shapely.Point(20, 10)], columns={"CRATER_ID": ["a"], "DIAM_CIRC_IMG": [7.5]}
    )
    found = read(path, PRESETS["robbins_moon"])  # a layer of that name need not have its lat and lon columns
    assert (found.ids, found.lat[0], found.lon[0], found.diameter[0]) == (["a"], 10, 20, 7.5)
    with pytest.raises(ReaderError, match="no outlines to take diameters from; option diameter_column"):
        read(path)


def test_a_shapefiles_ten_characters(tmp_path: Path) -> None:
    columns = {"CRATER_ID": ["a"], "LAT_CIRC_IMG": [10.0], "LON_CIRC_IMG": [20.0], "DIAM_CIRC_IMG": [7.5]}
    cut = {name[:10]: cells for name, cells in columns.items()}
    found = read(save(tmp_path / "p.shp", [shapely.Point(20, 10)], columns=cut), PRESETS["robbins_moon"])
    assert (found.lat[0], found.lon[0], found.diameter[0]) == (10, 20, 7.5)


def test_features_that_are_no_crater_are_skipped_and_counted(tmp_path: Path) -> None:
    shapes = [
        circle(*PLACES[0]),
        None,
        shapely.Point(),
        shapely.MultiPoint([(1, 2), (3, 4)]),
        shapely.LineString([(1, 2), (3, 4), (5, 0)]),
        shapely.MultiPoint([(5, 6)]),
    ]
    path = save(tmp_path / "p.geojson", shapes, "EPSG:4326", {"d": [100.0, 1, 1, 1, 1, 6]})
    told = "p.geojson: 4 of 6 rows are skipped: 4 without a point or an outline"
    with pytest.warns(UserWarning, match=told):
        found = read(path, Columns(None, None, None, "d"))
    assert (found.lat[1], found.lon[1], found.diameter[1]) == (6, 5, 6)
    assert found.skipped == {"without a point or an outline": 4}


def test_columns_and_geometry_must_say_one_place(tmp_path: Path) -> None:
    columns = {"lat": [10.0], "lon": [-20.0], "d": [7.5]}
    path = save(tmp_path / "p.gpkg", [shapely.Point(20, 10)], columns=columns)
    named = Columns(None, "lat", "lon", "d")
    with pytest.raises(ReaderError, match="columns and its geometry say different places"):
        read(path, named)
    assert read(path, named, Conventions(west_positive=True)).lon[0] == 20


def test_layers_are_chosen(tmp_path: Path) -> None:
    path = save(tmp_path / "two.gpkg", [circle(*PLACES[0])], layer="rims")
    save(path, [circle(*PLACES[1]), circle(*PLACES[2])], layer="others")
    with pytest.raises(ReaderError, match=r"has 2 layers \(rims, others\); choose one with option layer"):
        read(path)
    assert len(read(path, layer="others")) == 2
    with pytest.raises(ReaderError, match="has no layer 'rim'; it has rims, others"):
        read(path, layer="rim")
    table = tmp_path / "t.csv"
    table.write_text("lat,lon,d\n1,2,3\n")
    with pytest.raises(ReaderError, match="option layer is of vector files"):
        read(table, Columns(None, "lat", "lon", "d"), layer="rims")


@pytest.mark.parametrize("missing", [".shx", ".dbf"])
def test_a_shapefile_is_several_files(tmp_path: Path, missing: str) -> None:
    path = save(tmp_path / "rims.shp", [circle(*PLACES[0])])
    path.with_suffix(missing).unlink()
    with pytest.raises(ReaderError, match=rf"lies without rims\{missing}: a shapefile is several files"):
        read(path)


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_metres_without_a_crs(tmp_path: Path) -> None:
    path = save(tmp_path / "p.shp", [shapely.Point(600_000, 300_000)], None, {"d": [1.0]})
    with pytest.raises(ReaderError, match="not in degrees, and no CRS says in what"):
        read(path, Columns(None, None, None, "d"))


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    pd.DataFrame({"id": [7], "lat": [1.5], "lon": [2.5], "Diameter_m": [3000]}).to_parquet(path)
    found = read(path, Columns("id", "lat", "lon", "Diameter_m"))
    assert (list(found.ids), found.lat[0], found.lon[0], found.diameter[0]) == (["7"], 1.5, 2.5, 3.0)
