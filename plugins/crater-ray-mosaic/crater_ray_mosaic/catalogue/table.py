"""Named columns of any file that a table may come in: text, Parquet, Excel, vector layers."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from crater_ray.errors import ReaderError
from crater_ray.text import decoded
from crater_ray_mosaic.address import gdal_name
from crater_ray_mosaic.catalogue import vector
from crater_ray_mosaic.catalogue.text import named, picked, read_text, shown, units_row

XLSX = (".xlsx", ".xlsm")
BOOKS = (*XLSX, ".xls", ".ods")
HINT = "choose another preset, or name the columns with the *_column options"
CUT = 10  # characters of a name that a shapefile keeps


@dataclass(frozen=True)
class Table:
    """Columns by name. A column is a list of text, or an array where the file has types."""

    file: str
    header: Sequence[str]
    columns: dict[str, Sequence[Any]]
    units: dict[str, str]
    layer: vector.Layer | None = None  # of a vector file: its geometry and its CRS
    plain: bool = True  # all cells are text

    def __len__(self) -> int:
        if self.layer is not None:
            return len(self.layer.geometry)
        return len(next(iter(self.columns.values()), ()))

    def unit(self, name: str) -> str:
        """What a row of units says of a column, else ""."""
        return self.units.get(name, "")

    def text(self, name: str) -> list[str]:
        """A column as text without blanks around it, "" where a cell is empty; 7.0 as "7" in typed files."""
        cells = self.columns[name]
        return list(cells) if self.plain else [_text(cell) for cell in cells]


def read_table(
    path: Path,
    wanted: Sequence[str],
    *,
    optional: Sequence[str] = (),
    numeric: Sequence[str] = (),
    layer: str | None = None,
    what: str = "catalogue",
    hint: str = HINT,
) -> Table:
    """The wanted columns, and those of `optional` that there are. Names match without regard to case.

    numeric: those of them that hold numbers, in which a row of units is looked for. layer: of a vector file
    or a workbook. what, hint: of messages, the kind of table, and what to do where a column is missing.
    Raises ReaderError for a file that cannot be read, a missing column, or one that is there twice.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in vector.SUFFIXES or (path.is_file() and _head(path).startswith(b"SQLite format 3")):
            found = vector.read_layer(path, layer)
            return _typed(path, found.attributes, wanted, optional, numeric, found, hint)
        if layer is not None and suffix not in BOOKS:
            raise ReaderError(f"option layer is of vector files and workbooks, and {path.name} is neither")
        if suffix in BOOKS:
            return _book(path, wanted, optional, numeric, layer, hint)
        if suffix == ".parquet" or (path.is_file() and _head(path).startswith(b"PAR1")):
            return _typed(path, _parquet(path), wanted, optional, numeric, None, hint)
        name = gdal_name(path)
        if name.startswith("/vsi") or name != str(path):
            raise ReaderError(
                f"the {what} {name} is no file on this machine; of archives and addresses only vector "
                "layers are read (.shp, .gpkg, .geojson): unpack or download the table"
            )
        raw = path.read_bytes()
        if raw.startswith(b"\x1f\x8b"):
            raw = gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or f"{type(error).__name__}"
        raise ReaderError(f"cannot read the {what} {path}: {why}") from None
    return _text_table(path.name, decoded(raw, path.name), wanted, optional, numeric, hint)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def _text_table(
    file: str,
    text: str,
    wanted: Sequence[str],
    optional: Sequence[str],
    numeric: Sequence[str],
    hint: str,
) -> Table:
    header, _, rows = read_text(text, wanted, file)
    places = _places(file, header, wanted, optional, hint)
    cells = picked(rows, list(places.values()))
    columns: dict[str, Sequence[Any]] = dict(zip(places, cells, strict=True))
    return _without_units(file, header, columns, numeric)


def _without_units(
    file: str, header: Sequence[str], columns: dict[str, Sequence[Any]], numeric: Sequence[str]
) -> Table:
    number_names = [name for name in numeric if name in columns]
    first = [str(columns[name][0]) for name in number_names if len(columns[name])]
    units: dict[str, str] = {}
    if first and units_row(first):
        units = dict(zip(number_names, first, strict=True))
        columns = {name: cells[1:] for name, cells in columns.items()}
    return Table(file, header, columns, units)


def _book(
    path: Path,
    wanted: Sequence[str],
    optional: Sequence[str],
    numeric: Sequence[str],
    sheet: str | None,
    hint: str,
) -> Table:
    """A workbook's sheet through the rules of text: its header may stand below a title."""
    try:
        sheets = pd.read_excel(path, sheet_name=None, header=None, dtype=object)
    except ImportError:
        what = (
            "try: pip install 'crater-ray-mosaic[excel]'"
            if path.suffix.lower() in XLSX
            else "save it as .xlsx"
        )
        raise ReaderError(
            f"{path.name} is a workbook, and the package that reads it is missing; save it as CSV, or {what}"
        ) from None
    except OSError:
        raise
    except Exception as error:  # of several libraries, each with its own
        raise ReaderError(f"{path.name} cannot be read as a workbook: {type(error).__name__}") from None
    filled = {str(name): frame for name, frame in sheets.items() if len(frame)}
    if sheet is not None and sheet not in filled:
        raise ReaderError(f"{path.name} has no sheet {sheet!r}; it has {shown(list(filled))}")
    if sheet is None and len(filled) != 1:
        raise ReaderError(
            f"{path.name} has {len(filled)} sheets with rows ({shown(list(filled))}); "
            "choose one with option layer"
        )
    name = sheet or next(iter(filled))
    if path.suffix.lower() in XLSX and filled[name].isna().any(axis=None):
        _with_values(path, name, filled[name])
    rows = [[_text(cell) for cell in row] for row in filled[name].itertuples(index=False)]
    text = "\n".join("\t".join(" ".join(cell.split()) for cell in row) for row in rows).replace('"', "'")
    return _text_table(path.name, text, wanted, optional, numeric, hint)


def _with_values(path: Path, sheet: str, values: pd.DataFrame) -> None:
    """Raises ReaderError where no formula has a value: programs write them so, and only Excel computes."""
    from openpyxl import load_workbook

    formulas = [
        values.iat[row, column] if row < values.shape[0] and column < values.shape[1] else None
        for row, cells in enumerate(load_workbook(path)[sheet].iter_rows())
        for column, cell in enumerate(cells)
        if cell.data_type == "f"
    ]
    if formulas and all(pd.isna(value) for value in formulas):
        raise ReaderError(
            f"{path.name} has {len(formulas)} formulas without values; open it in a spreadsheet program and "
            "save it"
        )


def _parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path, engine="pyarrow")
    except OSError:
        raise
    except Exception as error:
        raise ReaderError(f"{path.name} cannot be read as Parquet: {type(error).__name__}") from None


def _typed(
    path: Path,
    frame: pd.DataFrame,
    wanted: Sequence[str],
    optional: Sequence[str],
    numeric: Sequence[str],
    layer: vector.Layer | None,
    hint: str,
) -> Table:
    header = [str(name) for name in frame.columns]
    places = _places(
        path.name, header, wanted, optional, hint, CUT if path.suffix.lower() == ".shp" else None
    )
    columns: dict[str, Sequence[Any]] = {}
    for name, place in places.items():
        series = frame.iloc[:, place]
        plain = pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_bool_dtype(series)
        columns[name] = series.to_numpy(float, na_value=float("nan")) if plain and name in numeric else (
            series.astype(object).where(series.notna(), None).tolist()
        )  # fmt: skip
    return Table(path.name, header, columns, {}, layer, plain=False)


def _places(
    file: str,
    header: Sequence[str],
    wanted: Sequence[str],
    optional: Sequence[str],
    hint: str,
    prefix: int | None = None,
) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in dict.fromkeys((*wanted, *optional)):
        place = named(header, name, file, prefix)
        if place is not None:
            found[name] = place
        elif name in wanted:
            raise ReaderError(f"{file} has no column {name!r}; it has {shown(header)}; {hint}")
    return found


def _text(cell: Any) -> str:
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()
