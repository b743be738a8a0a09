"""The reader of two catalogues, on the real Moon."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from crater_ray.errors import BadImage, ReaderError
from crater_ray.testing import FakeIndex, check_reader
from crater_ray_catalogue.catalogues import Catalogues, catalogues
from crater_ray_catalogue.dedup import Dedup

BOX = (-176.0, -20.0, -172.0, -16.0)


def reader(moon: Path, **more: Any) -> Catalogues:
    return catalogues(
        raster=moon / "moon_gld100_64ppd_50s50n.tif",
        kind="dem",
        body="moon",
        catalogue=moon / "moon_craters_head_povilaitis.csv",
        preset="head_povilaitis",
        second_catalogue=moon / "moon_craters_hkpolyu_ge3km_53of72sectors.csv",
        second_preset="hkpolyu",
        second_drop={"source": "Head2010"},
        box=BOX,
        min_diameter_km=20.0,
        **more,
    )


@pytest.mark.real
def test_both_catalogues_are_listed_and_seen(moon_data: Path) -> None:
    both = reader(moon_data, second_sun_azimuth=90.0)
    check_reader(both)
    items = [item for part in both.parts() for item in both.read(part)]
    sides = [item.columns["catalogue"] for item in items]
    assert {"a", "b"} == set(sides)
    assert all(item.id.startswith(f"{side}:") for item, side in zip(items, sides, strict=True))
    widths = [item.columns["diameter_km"] for item in items if item.columns["catalogue"] == "b"]
    assert 16.0 <= min(widths) < 20.0
    suns = {item.columns["catalogue"]: item.columns["sun_azimuth_deg"] for item in items}
    assert suns == {"a": 270.0, "b": 90.0}
    with pytest.raises(BadImage, match="a: or b:"):
        both.load(items[0].uri[2:])


@pytest.mark.real
def test_rows_are_dropped_by_a_column(moon_data: Path) -> None:
    kept = [reader(moon_data, drop=drop)._mosaics["a"].catalogue for drop in ({}, {"source": "Head2010"})]
    assert len(kept[1]) < len(kept[0])
    assert not any(id.startswith("H") for id in kept[1].ids)
    with pytest.raises(ReaderError, match="no column 'sauce'"):
        reader(moon_data, drop={"sauce": "Head2010"})
    assert np.isfinite(kept[0].lat).all()


@pytest.mark.real
def test_two_catalogues_of_the_moon_are_merged(moon_data: Path, tmp_path: Path) -> None:
    """Geometry alone: most of the sparser catalogue has its counterpart, a twentieth of a diameter off."""
    index = FakeIndex(reader(moon_data, size=32))
    Dedup(views=False)(index, index.neighbours(1), tmp_path)
    first = [row for row in index.items(["catalogue"])["catalogue"].to_pylist() if row == "a"]
    with (tmp_path / "one_to_one.csv").open(newline="") as file:
        pairs = list(csv.DictReader(file))
    assert len(pairs) >= 0.8 * len(first)
    assert all(row["first_id"][0] in "HP" and row["second_id"].startswith("LU") for row in pairs)
    away = [
        np.hypot(float(r["lat"]) - float(r["second_lat"]), float(r["lon"]) - float(r["second_lon"]))
        for r in pairs
    ]
    assert np.median(away) < 0.15


def moon(tmp_path: Path) -> Path:
    path = tmp_path / "moon.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=360,
        height=180,
        count=1,
        dtype="uint8",
        crs="+proj=longlat +R=1737400 +no_defs",
        transform=Affine(1, 0, -180, 0, -1, 90),
    ) as file:
        file.write(np.random.default_rng(0).integers(40, 90, (1, 180, 360)).astype("uint8"))
    return path


def two(tmp_path: Path, first: str, second: str, **more: Any) -> dict[str, tuple[float, float, float]]:
    """Item id -> lat, lon, diameter of both catalogues' views."""
    (tmp_path / "a.csv").write_text(first)
    (tmp_path / "b.csv").write_text(second)
    names = {"lat_column": "Lat", "lon_column": "Lon", "diameter_column": "Diam_km"}
    files = {"catalogue": tmp_path / "a.csv", "second_catalogue": tmp_path / "b.csv"}
    both = catalogues(raster=moon(tmp_path), **(files | names | more))
    items = [item for part in both.parts() for item in both.read(part)]
    return {item.id: tuple(item.columns[n] for n in ("lat", "lon", "diameter_km")) for item in items}  # type: ignore[misc]


FIRST = "Lon,Lat,Diam_km\n10,20,50\n"
SECOND = "Long,Lat,Diameter (km)\n10,20,48\n"
BOTH = {"a:n20.000e010.000d50_x3": (20, 10, 50), "b:n20.000e010.000d48_x3": (20, 10, 48)}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"second_lon_column": "Long", "second_diameter_column": "Diameter (km)"},
        {"second_preset": "craterpy", "second_lon_column": "Long", "second_lat_column": "Lat"},
    ],
)
def test_the_second_catalogue_has_headers_of_its_own(tmp_path: Path, more: dict[str, str]) -> None:
    assert two(tmp_path, FIRST, SECOND, **more) == BOTH


def test_the_second_catalogue_has_conventions_of_its_own(tmp_path: Path) -> None:
    second = "nr;x;Lat;r\nc1;350;20;24000\n"
    more = {"second_id_column": "nr", "second_lon_column": "x", "second_diameter_column": "r"}
    more |= {"second_west_positive": True, "second_diameter_unit": "m", "second_diameter_is": "radius"}
    assert two(tmp_path, FIRST, second, **more)["b:c1_x3"] == (20, 10, 48)
    with pytest.raises(ReaderError, match="no column 'Lon'; it has nr, x, Lat, r"):
        two(tmp_path, FIRST, second)


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        ("id,lat,lon,d,source", "utf-8"),
        ("id\tlat\tlon\td\tsource", "utf-8"),
        ("ID;lat;lon;d;source;näme", "latin-1"),
    ],
)
def test_what_is_read_can_be_dropped_from(tmp_path: Path, header: str, encoding: str) -> None:
    apart = next(one for one in ",\t;" if one in header)
    rows = [header, f"X,0,0,100,{' Head2010'},é"[: None if "näme" in header else -2], "Y,0,10,100,new"]
    text = (
        "\n".join(row if number == 0 else row.replace(",", apart) for number, row in enumerate(rows)) + "\n"
    )
    (tmp_path / "b.csv").write_bytes(text.encode(encoding))
    (tmp_path / "a.csv").write_text("id,lat,lon,d\nA,0,0,100\n")
    names = {f"{key}_column": key for key in ("id", "lat", "lon")} | {"diameter_column": "d"}
    given = names | {"catalogue": tmp_path / "a.csv", "second_catalogue": tmp_path / "b.csv"}
    both = catalogues(raster=moon(tmp_path), second_drop={"source": "Head2010"}, **given)
    assert [item.id for part in both.parts() for item in both.read(part)] == ["a:A_x3", "b:Y_x3"]
    with pytest.raises(ReaderError, match="no row has 'head2010' in column 'source'"):
        catalogues(raster=tmp_path / "moon.tif", second_drop={"source": "head2010"}, **given)


def test_two_rasters_of_bodies_of_other_sizes_are_refused(tmp_path: Path) -> None:
    paths = []
    for name, radius in (("moon.tif", 1737400), ("mercury.tif", 2440530)):
        paths.append(tmp_path / name)
        with rasterio.open(
            paths[-1], "w", driver="GTiff", width=36, height=18, count=1, dtype="uint8",
            crs=f"+proj=longlat +R={radius}", transform=Affine(10, 0, -180, 0, -10, 90),
        ) as file:  # fmt: skip
            file.write(np.zeros((1, 18, 36), np.uint8))
    table = tmp_path / "craters.csv"
    table.write_text("id,lat,lon,d\na,0,0,900\n")
    with pytest.raises(ReaderError, match=r"moon.tif \(1737.4 km\) and raster mercury.tif \(2440.53"):
        catalogues(
            raster=paths[0],
            second_raster=paths[1],
            catalogue=table,
            second_catalogue=table,
            id_column="id",
            lat_column="lat",
            lon_column="lon",
            diameter_column="d",
        )
