"""Catalogues: presets, longitudes, and errors that name column, count and row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crater_ray.errors import ReaderError
from crater_ray_mosaic.catalogue import PRESETS, Columns, Conventions, read_catalogue

Write = Callable[..., Path]
PLAIN = Columns("crater_id", "lat", "lon_e180", "diam_km")


def test_longitudes_of_either_kind_become_east_180(catalogue: Write) -> None:
    path = catalogue(
        [("a", 1, 0, 5), ("b", 2, 180, 5), ("c", 3, 190, 5), ("d", 4, 359.5, 5), ("e", 5, -179.5, 5)],
        header="crater_id,lat,lon,diam_km",
    )
    columns = replace(PLAIN, lon="lon")
    np.testing.assert_allclose(read_catalogue(path, columns).lon, [0, -180, -170, -0.5, -179.5])
    west = read_catalogue(path, columns, Conventions(west_positive=True))
    np.testing.assert_allclose(west.lon, [0, -180, 170, 0.5, 179.5])


@pytest.mark.parametrize(
    ("preset", "header", "row"),
    [
        (
            "robbins_mars",
            "CRATER_ID,LATITUDE_CIRCLE_IMAGE,LONGITUDE_CIRCLE_IMAGE,LATITUDE_ELLIPSE_IMAGE,DIAM_CIRCLE_IMAGE",
            ("01-000001", 84.4, -108.7, "", 86.9),
        ),
        (
            "robbins_moon",
            "CRATER_ID,LAT_CIRC_IMG,LON_CIRC_IMG,LAT_ELLI_IMG,DIAM_CIRC_IMG",
            ("00-1-000000", -19.8, 264.8, "", 940.9),
        ),
        (
            "head_povilaitis",
            "crater_id,source,lon_e180,lat,diam_km",
            ("H00000", "Head2010", -177.9, -48.6, 76.9),
        ),
        (
            "hkpolyu",
            "crater_id,source,lon_e180,lat,diam_km,depth_m",
            ("LU1", "Wang2020", -30.0, -8.8, 1.6, 245.9),
        ),
        ("craterpy", "Diameter (km),Latitude,Longitude", (280, -10.77, 123.99)),
    ],
)
def test_presets(catalogue: Write, preset: str, header: str, row: tuple[Any, ...]) -> None:
    found = read_catalogue(catalogue([row], header=header), PRESETS[preset])
    cells = dict(zip(header.split(","), row, strict=True))
    columns = PRESETS[preset]
    assert found.lat[0] == cells[columns.lat]
    assert found.diameter[0] == cells[columns.diameter]
    assert found.lon[0] == pytest.approx((float(cells[columns.lon]) + 180) % 360 - 180)
    assert list(found.ids) == [cells[columns.id] if columns.id else "s10.770e123.990d280"]


def test_tabs_case_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "craters.tsv"
    path.write_text(
        '\ufeff"Crater_ID"\tLAT\tlon_E180\tnote\tDiam_km\n01-1\t 5.5 \t6\ta, b\t7\n', encoding="utf-8"
    )
    found = read_catalogue(path, PLAIN)
    assert (found.ids[0], found.lat[0], found.lon[0], found.diameter[0]) == ("01-1", 5.5, 6, 7)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [("a", 1, 2, 5), ("b", "x", 2, 5), ("c", "", 2, 5)],
            r"2 of 3 cells of column 'lat' are not numbers.*row 2 \('x'\)",
        ),
        ([("a", 1, "nan", 5)], "1 of 1 cells of column 'lon_e180' are not numbers"),
        ([("a", 1, 2, -5)], "'diam_km' are not above 0"),
        ([("a", 91, 2, 5)], "'lat' are beyond ±90"),
        ([("a", 1, 361, 5)], "'lon_e180' are beyond ±360"),
        ([("a", 1, 2, 5), ("b", 1, 2, 5), ("a", 3, 4, 5)], "1 crater id.* more than once, among them 'a'"),
        ([("", 1, 2, 5)], "'crater_id' are empty"),
    ],
)
def test_bad_cells(catalogue: Write, rows: list[tuple[Any, ...]], message: str) -> None:
    with pytest.raises(ReaderError, match=message):
        read_catalogue(catalogue(rows), PLAIN)


def test_missing_column_and_file(catalogue: Write, tmp_path: Path) -> None:
    path = catalogue([("a", 1, 2, 5)])
    with pytest.raises(ReaderError, match=r"no column 'LAT_CIRC_IMG'; it has crater_id, lat.*preset"):
        read_catalogue(path, PRESETS["robbins_moon"])
    with pytest.raises(ReaderError, match="cannot read the catalogue"):
        read_catalogue(tmp_path / "none.csv", PLAIN)
    ragged = tmp_path / "ragged.csv"
    ragged.write_text("crater_id,lat,lon_e180,diam_km\na,1,2,3,4,5\n")
    with pytest.raises(ReaderError, match="not a CSV table"):
        read_catalogue(ragged, PLAIN)


def test_boxes(catalogue: Write) -> None:
    path = catalogue([("a", 0, 175, 5), ("b", 0, -175, 5), ("c", 0, 0, 5), ("d", 40, 178, 5)])
    found = read_catalogue(path, PLAIN)
    assert found.inside((170, -10, -170, 10)).tolist() == [True, True, False, False]
    assert found.inside((170, -10, 190, 10)).tolist() == [True, True, False, False]
    assert found.inside((-180, -90, 180, 90)).all()
    assert found.inside((0, -90, 360, 90)).all()
    assert found.inside((-10, -5, 10, 5)).tolist() == [False, False, True, False]


@pytest.mark.real
def test_the_martian_preset_reads_a_copy_with_short_names(moon_data: Path) -> None:
    path = moon_data.parent / "mars" / "mars_craters_robbins_sample.csv"
    found = read_catalogue(path, PRESETS["robbins_mars"])
    rows = np.genfromtxt(path, delimiter=",", names=True, dtype=None, encoding="utf-8")
    of = {str(row["CRATER_ID"]): row for row in rows}
    assert len(found) == len(of) >= 669
    for id, lat, diameter in zip(found.ids, found.lat, found.diameter, strict=True):
        assert (lat, diameter) == (of[id]["LAT_CIRC_IMG"], of[id]["DIAM_CIRC_IMG"])


def test_a_preset_whose_ids_the_file_lacks_is_told(tmp_path: Path) -> None:
    path = tmp_path / "iau.csv"
    path.write_text("name,lat,lon_e180,diam_km\nAarna,14.7,-21.57,43.0\n")
    said = r"no column 'CRATER_ID', so craters are named by their place; it is read with 'lat' as lat"
    with pytest.warns(UserWarning, match=said):
        found = read_catalogue(path, PRESETS["robbins_mars"])
    assert found.diameter.tolist() == [43.0]
