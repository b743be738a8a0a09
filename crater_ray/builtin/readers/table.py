"""A CSV or Parquet table whose faults are told by line and column."""

from __future__ import annotations

import re
from collections.abc import Set
from difflib import get_close_matches
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from crater_ray.errors import ReaderError
from crater_ray.text import decoded

_ABOVE = re.compile(r"(?:[ \t]*(?:sep=.|#[^\n]*)?[ \t]*\n)+", re.IGNORECASE)  # lines above a header


class Table:
    """A table file as it stands, in its own row order.

    In a CSV the columns named in `text` stay text ("007"); the others get the type that all values have.
    Raises ReaderError when it cannot be read, has no rows, or has two columns of one name.
    """

    def __init__(self, path: Path, text: Set[str]) -> None:
        self.path = path
        self.arrow, self._above = _loaded(path, text)
        self.names: list[str] = self.arrow.column_names
        twice = next((name for name in self.names if self.names.count(name) > 1), None)
        if twice is not None:
            raise ReaderError(f"{path} has two columns called {twice!r}; rename one")
        if not self.arrow.num_rows:
            raise ReaderError(f"{path} lists no image")
        self.arrow = pa.table([_plain(self.arrow[name]) for name in self.names], names=self.names)

    def require(self, name: str, option: str) -> None:
        """Raises ReaderError, with the closest name and the option to set, unless there is such a column."""
        if name in self.names:
            return
        lower = {known.lower(): known for known in self.names}
        close = get_close_matches(name.lower(), lower, 1)
        hint = f"did you mean {lower[close[0]]!r}? " if close else ""
        raise ReaderError(
            f"{self.path} has no column {name!r}; {hint}it has {', '.join(self.names)}; set {option}"
        )

    def text(self, name: str) -> pa.ChunkedArray:
        """A column as strings, "" for null. Raises ReaderError for one that is no text (lists, bytes)."""
        try:
            return pc.fill_null(self.arrow[name].cast(pa.string()), "")
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            kind = self.arrow[name].type
            raise ReaderError(f"{self.path}: column {name!r} holds {kind}, not text or numbers") from None

    def refuse(self, bad: pa.ChunkedArray, why: str) -> None:
        """Raises ReaderError naming the first line where `bad` is true."""
        row = pc.index(bad, True).as_py()
        if row >= 0:
            raise ReaderError(f"{self.path}, {self._line(row)}: {why}")

    def unique(self, ids: pa.ChunkedArray) -> None:
        """Raises ReaderError naming an id that stands twice, and both lines."""
        if pc.count_distinct(ids).as_py() == len(ids):
            return
        order = pc.sort_indices(ids)  # stable: the first line comes first
        ordered = ids.take(order)
        place = pc.index(pc.equal(ordered.slice(1), ordered.slice(0, len(ids) - 1)), True).as_py()
        first, second = (self._line(order[place + step].as_py()) for step in (0, 1))
        id = ordered[place].as_py()
        raise ReaderError(f"{self.path}: id {id!r} stands twice, on {first} and {second}; ids must be unique")

    def _line(self, row: int) -> str:
        return f"row {row + 1}" if self.path.suffix.lower() == ".parquet" else f"line {self._above + row + 2}"


def _loaded(path: Path, text: Set[str]) -> tuple[pa.Table, int]:
    """The table, and how many lines of its file lie above the header."""
    kind = path.suffix.lower()
    if kind not in (".csv", ".tsv", ".parquet"):
        raise ReaderError(f"{path} is not a table that can be read; give a .csv, .tsv or .parquet file")
    try:
        return (pa.parquet.read_table(path, partitioning=None), 0) if kind == ".parquet" else _csv(path, text)
    except FileNotFoundError:
        raise ReaderError(f"{path} does not exist; set path to the table of images") from None
    except (OSError, pa.ArrowException, ValueError) as error:
        why = "".join(one for one in str(error).splitlines()[0][:200] if one.isprintable())
        raise ReaderError(f"{path} cannot be read: {why}") from error


def _csv(path: Path, text: Set[str]) -> tuple[pa.Table, int]:
    """Commas, semicolons, tabs or bars; rows without a single cell are left out, and blanks around a cell.

    Blank lines, comments and Excel's `sep=;` above the header are read over.
    """
    whole = decoded(path.read_bytes(), str(path))
    start = _header(whole, text)
    above = whole.count("\n", 0, start)
    content = whole[start:].encode()
    bare = re.sub(r'"[^"]*"', "", content.partition(b"\n")[0].decode())
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t|", key=bare.count)
    # one block, so that a column's type is that of all its values, not of the first megabyte's
    block = min(max(len(content) + 1, 1 << 16), (1 << 31) - 1)
    table = pa.csv.read_csv(
        pa.BufferReader(content),
        read_options=pa.csv.ReadOptions(block_size=block),
        parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(text, pa.string())),
    )
    names = [name.strip() for name in table.column_names]
    while len(names) > 1 and not names[-1] and table.column(len(names) - 1).null_count == len(table):
        names.pop()  # commas at the ends of all lines
        table = table.remove_column(len(names))
    table = table.rename_columns(names)
    if delimiter == ";":
        table = pa.table([_points(column) for column in table.columns], names=names)
    return pa.table([_trimmed(column) for column in table.columns], names=names), above


def _header(whole: str, wanted: Set[str]) -> int:
    """Where the header begins: behind comments, unless the last of them has a column that is asked for."""
    passed = _ABOVE.match(whole)
    if passed is None:
        return 0
    last = passed.group().rstrip().rpartition("\n")[2]
    cells = [cell.strip(' \t"') for cell in re.split(r"[,;\t|]", last)]
    bare = [cells[0].lstrip("# \t"), *cells[1:]]
    if not last.startswith("#") or wanted.isdisjoint([*cells, *bare]):
        return passed.end()
    mark = 0 if cells[0] in wanted else len(last) - len(last.lstrip("# \t"))
    return passed.group().rindex(last) + mark


def _trimmed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.utf8_trim_whitespace(column) if pa.types.is_string(column.type) else column


def _points(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column whose every value has a decimal comma, or is an integer beside some, as numbers."""
    if not pa.types.is_string(column.type) or not pc.any(pc.match_substring(column, ",")).as_py():
        return column
    numbers = pc.match_substring_regex(column, r"^\s*[+-]?\d+(,\d+)?\s*$")
    if not pc.all(pc.if_else(pc.equal(column, ""), True, numbers)).as_py():
        return column
    points = pc.utf8_trim_whitespace(pc.replace_substring(column, ",", "."))
    return pc.cast(pc.if_else(pc.equal(points, ""), None, points), pa.float64())


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A dictionary as its values, a column of nothing as text: types that do not differ between runs."""
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    return column.cast(pa.string()) if pa.types.is_null(column.type) else column
