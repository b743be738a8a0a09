"""Text tables of craters as programs and publishers write them. What is read says 1.5° N, 2.5° E, 3 km."""

from __future__ import annotations

import gzip
from pathlib import Path

from inputs.row import Row

H = "id,lat,lon,d\n"

FORMS: dict[str, str | bytes] = {
    "plain CSV": H + "A,1.5,2.5,3\n",
    "no line end after the last row": H + "A,1.5,2.5,3",
    "line ends of DOS, and its end-of-file sign": (H + "A,1.5,2.5,3\n").replace("\n", "\r\n") + "\x1a",
    "line ends of CR alone": (H + "A,1.5,2.5,3\n").replace("\n", "\r"),
    "semicolons and decimal commas": "id;lat;lon;d\nA;1,5;2,5;3,0\n",
    "quoted decimal commas": 'id,lat,lon,d\nA,"1,5","2,5","3,0"\n',
    "tabs": "id\tlat\tlon\td\nA\t1.5\t2.5\t3\n",
    "bars": "id|lat|lon|d\nA|1.5|2.5|3\n",
    "blanks": "  id    lat   lon  d\n  A     1.5   2.5  3\n",
    "Excel's `sep=`": "sep=;\nid;lat;lon;d\nA;1,5;2,5;3\n",
    "UTF-8 with a byte-order mark": (H + "A,1.5,2.5,3\n").encode("utf-8-sig"),
    "UTF-16": "id\tlat\tlon\td\nA\t1.5\t2.5\t3\n".encode("utf-16"),
    "UTF-16 without a byte-order mark": (H + "A,1.5,2.5,3\n").encode("utf-16-le"),
    "Latin-1": (H + "Röntgen,1.5,2.5,3\n").encode("latin-1"),
    "gzip": gzip.compress((H + "A,1.5,2.5,3\n").encode()),
    "comment lines": "# mine\n# of 2020\n" + H + "A,1.5,2.5,3\n# end\n",
    "a header in a comment line": "# id lat lon d\nA 1.5 2.5 3\n",
    "a title above the header": "Table S1. Craters, all\n\n" + H + "A,1.5,2.5,3\n",
    "blank rows": "\n\n" + H + "\nA,1.5,2.5,3\n,,,\n\n",
    "a row of units": H + ",deg,deg,km\nA,1.5,2.5,3\n",
    "a row of units in brackets": H + "-,[°N],[°E],[m]\nA,1.5,2.5,3000\n",
    "trailing commas": "id,lat,lon,d,,\nA,1.5,2.5,3,,\n",
    "trailing commas in rows alone": H + "A,1.5,2.5,3,,\n",
    "quoted cells": '"id","lat","lon","d"\n"A","1.5","2.5","3"\n',
    "a comma in a quoted cell": 'id,"name, IAU",lat,lon,d\nA,"x, y",1.5,2.5,3\n',
    "a line end in a quoted cell": 'id,note,lat,lon,d\nA,"two\nlines",1.5,2.5,3\n',
    "columns of one name that are not used": "id,lat,lon,d,note,note\nA,1.5,2.5,3,x,y\n",
    "`1.5N`, `3 km`": H + "A,1.5N,2.5E,3 km\n",
    "`N 1.5`, `3000 m`": H + "A,N 1.5,E 2.5,3000 m\n",
    "`357.5°W`": H + "A,1.5 N,357.5°W,3\n",
    "degrees, minutes and seconds": H + "A,1°30'00\"N,2°30'E,3\n",
    "an id that begins with #": H + "#1,1.5,2.5,3\n",
}

REFUSED: dict[str, tuple[str, str]] = {
    "a lone `1,003`": (
        "id;lat;lon;d\nA;1;2;1,003\n",
        "1,003 may have a decimal comma or a thousands separator; write it with a point",
    ),
    "decimal points and decimal commas": (
        "id;lat;lon;d\nA;1,5;2.5;3\n",
        "numbers with a point (2.5) and with a decimal comma (1,5); write all of them alike",
    ),
    "a header given twice": ("id,lat,lon,d,d\nA,1,2,3,99\n", "2 columns called 'd'; rename all but one"),
    "a header given twice, in two cases": ("id,Lat,LAT,lon,d\nA,1,1,2,3\n", "2 columns called 'lat'; rename"),
    "no header": ("A,1.5,2.5,3\n", "no column 'id'; it has A, 1.5, 2.5, 3; choose another preset, or name"),
    "an empty file": ("", "is empty: it needs a header line and a line for each crater"),
    "a row that is too long": (H + "A,1,2,3,4\n", "row 1 has 5 cells, and its header 4"),
    "an open quote": (H + 'A,1,2,3\n"B,1,2,3\n', "is not a CSV table: line 4: unexpected end of data"),
    "`E` in a latitude": (H + "A,1E,2N,3\n", "cells of column 'lat' are not numbers, the first in row 1"),
    "a word for a number": (
        H + "A,1,2,big\n",
        "cells of column 'd' are not numbers, the first in row 1 ('big'",
    ),
    "a negative diameter": (H + "A,1,2,-3\n", "cells of column 'd' are not above 0, the first in row 1"),
    "latitude and longitude swapped": (
        H + "A,101,2,3\nB,150,9,3\n",
        "are beyond ±90, and none of 'lon' is; are lat_column and lon_column swapped?",
    ),
    "an id given twice": (H + "A,1,2,3\nA,1,2,4\n", "1 crater id(s) more than once, among them 'A'"),
}


def _read(content: str | bytes, folder: Path) -> None:
    from crater_ray_mosaic.catalogue import Columns, read_catalogue
    from crater_ray_mosaic.catalogue.measures import Body

    path = folder / "c.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = read_catalogue(path, Columns("id", "lat", "lon", "d"), body=Body(1737.4, 0.0))
    assert [*found.lat, *found.lon, *found.diameter] == [1.5, 2.5, 3.0]


def _row(form: str, answer: str, content: str | bytes) -> Row:
    return Row(form, answer, lambda folder: _read(content, folder))


ROWS = (
    *(_row(form, "read", content) for form, content in FORMS.items()),
    *(_row(form, answer, content) for form, (content, answer) in REFUSED.items()),
)
