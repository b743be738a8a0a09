"""Text tables as programs and publishers write them: each says the crater at 1.5° N, 2.5° E, 3 km."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path
from typing import Any

import numpy as np
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


FORMS: dict[str, str | bytes] = {
    "plain": H + "A,1.5,2.5,3\n",
    "no last line end": H + "A,1.5,2.5,3",
    "line ends of DOS, and its end of file": (H + "A,1.5,2.5,3\n").replace("\n", "\r\n") + "\x1a",
    "CR alone": (H + "A,1.5,2.5,3\n").replace("\n", "\r"),
    "semicolons and decimal commas": "id;lat;lon;d\nA;1,5;2,5;3,0\n",
    "quoted decimal commas": 'id,lat,lon,d\nA,"1,5","2,5","3,0"\n',
    "tabs": "id\tlat\tlon\td\nA\t1.5\t2.5\t3\n",
    "bars": "id|lat|lon|d\nA|1.5|2.5|3\n",
    "blanks": "  id    lat   lon  d\n  A     1.5   2.5  3\n",
    "Excel's sep=": "sep=;\nid;lat;lon;d\nA;1,5;2,5;3\n",
    "BOM": (H + "A,1.5,2.5,3\n").encode("utf-8-sig"),
    "UTF-16": "id\tlat\tlon\td\nA\t1.5\t2.5\t3\n".encode("utf-16"),
    "UTF-16 without its mark": (H + "A,1.5,2.5,3\n").encode("utf-16-le"),
    "Latin-1": (H + "Röntgen,1.5,2.5,3\n").encode("latin-1"),
    "gzip": gzip.compress((H + "A,1.5,2.5,3\n").encode()),
    "comments": "# mine\n# of 2020\n" + H + "A,1.5,2.5,3\n# end\n",
    "a commented header": "# id lat lon d\nA 1.5 2.5 3\n",
    "a title": "Table S1. Craters, all\n\n" + H + "A,1.5,2.5,3\n",
    "blank rows": "\n\n" + H + "\nA,1.5,2.5,3\n,,,\n\n",
    "a row of units": H + ",deg,deg,km\nA,1.5,2.5,3\n",
    "a row of units in brackets": H + "-,[°N],[°E],[m]\nA,1.5,2.5,3000\n",
    "trailing commas": "id,lat,lon,d,,\nA,1.5,2.5,3,,\n",
    "trailing commas in rows alone": H + "A,1.5,2.5,3,,\n",
    "quotes": '"id","lat","lon","d"\n"A","1.5","2.5","3"\n',
    "a comma in a quoted cell": 'id,"name, IAU",lat,lon,d\nA,"x, y",1.5,2.5,3\n',
    "a quoted line end": 'id,note,lat,lon,d\nA,"two\nlines",1.5,2.5,3\n',
    "other columns twice": "id,lat,lon,d,note,note\nA,1.5,2.5,3,x,y\n",
    "letters": H + "A,1.5N,2.5E,3 km\n",
    "letters before": H + "A,N 1.5,E 2.5,3000 m\n",
    "west": H + "A,1.5 N,357.5°W,3\n",
    "sixties": H + "A,1°30'00\"N,2°30'E,3\n",
    "a row that begins with #": H + "#1,1.5,2.5,3\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(tmp_path: Path, form: str) -> None:
    found = read(tmp_path / "c.csv", FORMS[form])
    assert len(found) == 1
    assert (found.lat[0], found.lon[0], found.diameter[0]) == (1.5, 2.5, 3.0)


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


REFUSED: dict[str, tuple[str, str]] = {
    "a lone 1,003": (
        "id;lat;lon;d\nA;1;2;1,003\n",
        "1,003 may have a decimal comma or a thousands separator",
    ),
    "points and decimal commas": (
        "id;lat;lon;d\nA;1,5;2.5;3\n",
        r"\(2\.5\) and with a decimal comma \(1,5\)",
    ),
    "a wanted header twice": ("id,lat,lon,d,d\nA,1,2,3,99\n", "2 columns called 'd'; rename all but one"),
    "a wanted header in two cases": ("id,Lat,LAT,lon,d\nA,1,1,2,3\n", "2 columns called 'lat'"),
    "no header": ("A,1.5,2.5,3\n", "no column 'id'; it has A, 1.5, 2.5, 3"),
    "nothing": ("", "c.csv is empty"),
    "a row that is too long": (H + "A,1,2,3,4\n", "row 1 has 5 cells, and its header 4"),
    "an open quote": (H + 'A,1,2,3\n"B,1,2,3\n', "not a CSV table: line 4: unexpected end of data"),
    "letters of the other axis": (H + "A,1E,2N,3\n", "'lat' are not numbers"),
    "words": (H + "A,1,2,big\n", "'d' are not numbers, the first in row 1 .'big'"),
    "a negative diameter": (H + "A,1,2,-3\n", "'d' are not above 0"),
    "latitude and longitude swapped": (H + "A,101,2,3\nB,150,9,3\n", "swapped"),
    "ids that come twice": (H + "A,1,2,3\nA,1,2,4\nB,1,1,1\nB,1,1,2\n", "2 crater id.*among them 'A', 'B'"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_is_refused(tmp_path: Path, form: str) -> None:
    text, message = REFUSED[form]
    with pytest.raises(ReaderError, match=message):
        read(tmp_path / "c.csv", text)


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


def test_rows_without_a_diameter_are_skipped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = "A,1.5,2.5,3\nB,1,1,0\nC,1,1,\nD,1,1,nan\nE,1,1,NA\nF,1,1,-\nG,1,1,-9999\n"
    with caplog.at_level(logging.WARNING, "crater_ray_mosaic"):
        found = read(tmp_path / "c.csv", H + rows)
    assert list(found.ids) == ["A"]
    assert found.skipped == {"without a diameter": 6}
    assert "c.csv: 6 of 7 rows are skipped: 6 without a diameter" in caplog.text


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


def test_a_row_that_comes_twice_is_one_crater(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "crater_ray_mosaic"):
        found = read(tmp_path / "c.csv", "lat,lon,d\n1,2,3\n1,2,3\n1,2,4\n", NAMELESS)
    assert list(found.ids) == ["n01.000e002.000d3", "n01.000e002.000d4"]
    assert "1 of 3 rows are skipped: 1 the same crater as another row" in caplog.text


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


def test_the_docs_list_every_form(tmp_path: Path) -> None:
    rows = [f"| {form} | read |" for form in FORMS]
    for form, (text, _) in REFUSED.items():
        with pytest.raises(ReaderError) as told:
            read(tmp_path / "c.csv", text)
        line = str(told.value).replace("|", "\\|")
        rows.append(f"| {form} | refused: {line} |")
    docs = (Path(__file__).parents[3] / "docs" / "catalogues.md").read_text(encoding="utf-8")
    assert [row for row in rows if row not in docs.splitlines()] == []
