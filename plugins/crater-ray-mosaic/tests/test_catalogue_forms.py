"""Text tables as programs and publishers write them, beyond the forms that docs/inputs lists and tries."""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crater_ray.errors import ReaderError
from crater_ray_mosaic.catalogue import Catalogue, Columns, Conventions, read_catalogue
from crater_ray_mosaic.catalogue.measures import Body

PLAIN = Columns("id", "lat", "lon", "d")
H = "id,lat,lon,d\n"
MOON = Body(1737.4, 0.0)


def read(path: Path, content: str | bytes, columns: Columns = PLAIN, **more: Any) -> Catalogue:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = more.pop("said", Conventions())
    return read_catalogue(path, columns, said, **({"body": MOON} | more))


@pytest.mark.parametrize(
    ("cell", "delimiter", "kilometres"),
    [
        ('"1,003"', ",", 1003.0),
        ('"1,003.5"', ",", 1003.5),
        ("1.003,5", ";", 1003.5),
        ("1 003,5", ";", 1003.5),
    ],
)
def test_thousands(tmp_path: Path, cell: str, delimiter: str, kilometres: float) -> None:
    text = f"id,lat,lon,d\nA,{'1.5,2.5' if delimiter == ',' else '1;2'},{cell}\n"
    text = text if delimiter == "," else f"id;lat;lon;d\nA;1,5;2,5;{cell}\n"
    assert read(tmp_path / "c.csv", text).diameter[0] == kilometres


@pytest.mark.parametrize(
    "raw",
    [
        b"PK\x03\x04" + bytes(range(256)),
        bytes(range(256)) * 4,
        b"\x89PNG\r\n\x1a\n" + bytes(99),
        b"II*\x00" + bytes(99),
        b"\xd0\xcf\x11\xe0" + bytes(99),
        np.random.default_rng(0).bytes(3000),
        b"\x1f\x8bxxxx",
    ],
)
@pytest.mark.parametrize("name", ["c.csv", "c.gpkg", "c.geojson", "c.xlsx", "c.parquet"])
def test_a_binary_file_is_refused_without_its_bytes(tmp_path: Path, raw: bytes, name: str) -> None:
    with pytest.raises(ReaderError) as told:
        read(tmp_path / name, raw)
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 400


def test_rows_without_a_diameter_are_skipped_and_counted(tmp_path: Path) -> None:
    rows = "A,1.5,2.5,3\nB,1,1,0\nC,1,1,\nD,1,1,nan\nE,1,1,NA\nF,1,1,-\nG,1,1,-9999\n"
    with pytest.warns(UserWarning, match=r"c\.csv: 6 of 7 rows are skipped: 6 without a diameter"):
        found = read(tmp_path / "c.csv", H + rows)
    assert list(found.ids) == ["A"]
    assert found.skipped == {"without a diameter": 6}


NAMELESS = Columns(None, "lat", "lon", "d")


def test_names_by_place_and_diameter(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    lat, lon = 18.4 + draw.uniform(0, 0.05, 5000), 77.4 + draw.uniform(0, 0.05, 5000)
    rows = [f"{a:.6f},{b:.6f},0.01\n" for a, b in zip(lat, lon, strict=True)]
    rows += [
        "1.5,2.5,3\n",
        "1.5,2.5,1\n",
        "1.00001,2.00001,0.03\n",
        "1.00041,2.00041,0.02\n",
        "-8.92,-13.4,12.5\n",
    ]
    mars = Body(3396.19, None)
    found = read(tmp_path / "c.csv", "lat,lon,d\n" + "".join(rows), NAMELESS, body=mars)
    assert len(set(found.ids)) == len(found) == 5005
    assert found.ids[-1] == "s08.920w013.400d12.5"
    assert all(name.replace(".", "").isalnum() for name in found.ids)
    fewer = read(tmp_path / "d.csv", "lat,lon,d\n" + "".join(rows[::-2]), NAMELESS, body=mars)
    assert set(fewer.ids) <= set(found.ids)


def test_a_row_that_comes_twice_is_one_crater(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="1 of 3 rows are skipped: 1 the same crater as another row"):
        found = read(tmp_path / "c.csv", "lat,lon,d\n1,2,3\n1,2,3\n1,2,4\n", NAMELESS)
    assert list(found.ids) == ["n01.000e002.000d3", "n01.000e002.000d4"]


def test_rows_are_dropped_by_a_value_that_is_there(tmp_path: Path) -> None:
    text = "id;source;lat;lon;d\nX; Head2010 ;0;0;100\nY;new;x;10;100\nZ;new;0;20;50\n"
    assert list(read(tmp_path / "c.csv", text.replace("x", "1"), drop={"source": "Head2010"}).ids) == [
        "Y",
        "Z",
    ]
    assert list(read(tmp_path / "c.csv", text, drop={"id": "Y"}).ids) == ["X", "Z"]  # a bad row may be one
    with pytest.raises(
        ReaderError, match=r"no row has 'head2010' in column 'source'.*it has 'new', 'Head2010'"
    ):
        read(tmp_path / "c.csv", text, drop={"source": "head2010"})


def test_a_workbook_without_the_package_that_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.xlsx"
    pd.DataFrame({"id": ["A"], "lat": [1.5], "lon": [2.5], "d": [3]}).to_excel(path, index=False)
    assert read_catalogue(path, PLAIN, body=MOON).diameter[0] == 3
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(ReaderError, match=r"c\.xlsx is a workbook.*pip install 'crater-ray-mosaic\[excel\]'"):
        read_catalogue(path, PLAIN, body=MOON)


@pytest.mark.parametrize("asked", ["NFC", "NFD"])
@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_accents_match_however_they_are_written(tmp_path: Path, asked: str, stored: str, suffix: str) -> None:
    """macOS and some editors write é as two characters, which look like one."""
    name = unicodedata.normalize(stored, "Diamètre")
    path = tmp_path / f"c{suffix}"
    table = pd.DataFrame({"id": ["a"], "lat": [1.0], "lon": [2.0], name: [5.0]})
    table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path)
    columns = Columns("id", "lat", "lon", unicodedata.normalize(asked, "Diamètre"))
    assert read_catalogue(path, columns, Conventions(), body=MOON).diameter[0] == 5.0
