"""A table out of a text file, whatever program wrote it: encoding, line ends, delimiter, comments, header."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

from crater_ray.errors import ReaderError

DELIMITERS = ("\t", ";", ",", "|", " ")  # " ": any run of blanks
COMMENT = ("#", "%", "!", "//")
LOOKED_THROUGH = 100  # lines, for the header
CELL = 1 << 20  # characters a cell may have

_UNITS = re.compile(
    r"[\(\[]?\s*(deg\w*\.?|°|dd|rad\w*|km|m|metres?|meters?|kilomet(er|re)s?)[\s.,]*[\(\[]?\s*"
    r"([NSEW+-]|north|south|east|west)?\s*[\)\]]*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Text:
    """The columns that were asked for, in that order, and all header names as they stand."""

    header: Sequence[str]
    columns: Sequence[Sequence[str]]
    units: Sequence[str]  # of the asked columns, from a row of units; else ""


def named(header: Sequence[str], name: str, file: str, prefix: int | None = None) -> int | None:
    """The column of a name, exact or without regard to case and blanks; None where there is none.

    prefix: names were cut to so many characters (a shapefile's ten). Raises ReaderError where two columns
    have the name.
    """
    if header.count(name) == 1:
        return header.index(name)
    wanted = _plain(name)
    found = [number for number, one in enumerate(header) if _plain(one) == wanted]
    if not found and prefix and len(name) > prefix:
        found = [number for number, one in enumerate(header) if _plain(one) == wanted[:prefix]]
    if len(found) > 1:
        raise ReaderError(f"{file} has {len(found)} columns called {name!r}; rename all but one")
    return found[0] if found else None


def read_text(text: str, wanted: Sequence[str], file: str) -> tuple[Sequence[str], str, Iterator[list[str]]]:
    """The header, its delimiter, and the rows below it, each as long as the header; blank rows are left out.

    The header is the first line that has all wanted names, else the first that is no comment. Raises
    ReaderError for a file without a line, and for rows with more cells than the header, or an open quote.
    """
    lines = text.split("\n")
    start, delimiter, commented = _header(lines, wanted)
    if start < 0:
        raise ReaderError(f"{file} is empty: it needs a header line and a line for each crater")
    source = lines[start:]
    if commented:
        source[0] = source[0].lstrip("".join(COMMENT) + " \t")
    rows = _split(source, delimiter, file)
    header = [" ".join(cell.split()) for cell in next(rows)]
    while len(header) > 1 and not header[-1]:
        header.pop()
    return header, delimiter, _even(rows, len(header), file)


def picked(rows: Iterable[list[str]], numbers: Sequence[int]) -> list[list[str]]:
    """Columns by number, as lists of cells without blanks around them."""
    if not numbers:
        return []
    some = list(map(itemgetter(*numbers, numbers[0]), rows))  # one more, so that one column is a tuple too
    columns = list(zip(*some, strict=True))[:-1] if some else [()] * len(numbers)
    return [list(map(str.strip, column)) for column in columns]


def units_row(cells: Sequence[str]) -> bool:
    """Whether the number cells of a table's first row name units and hold no number."""
    said = [cell.strip() for cell in cells if cell.strip()]
    return bool(said) and all(_UNITS.fullmatch(cell) for cell in said)


def shown(header: Sequence[str]) -> str:
    """Header names as a message may have them: printable, and not too many."""
    clean = ["".join(one if one.isprintable() else "?" for one in name)[:40] for name in header]
    return ", ".join(clean[:20]) + (" …" if len(clean) > 20 else "")


def _header(lines: Sequence[str], wanted: Sequence[str]) -> tuple[int, str, bool]:
    """Line, delimiter, and whether the line is a comment; line -1 where there is none."""
    names = {_plain(name) for name in wanted}
    first = -1
    commented: tuple[int, str] | None = None
    for number, line in enumerate(lines[:LOOKED_THROUGH]):
        bare = line.strip().lstrip("\ufeff")
        if not bare:
            continue
        comment = bare.startswith(COMMENT)
        if first < 0 and not comment:
            first = number
        if not names:
            continue
        source = [bare.lstrip("".join(COMMENT) + " \t"), *lines[number + 1 : number + 20]] if comment else (
            lines[number : number + 20]
        )  # fmt: skip
        for delimiter in DELIMITERS:
            if names <= {_plain(cell) for cell in _first(source, delimiter)}:
                if not comment:
                    return number, delimiter, False
                commented = commented or (number, delimiter)
    if commented:
        return commented[0], commented[1], True
    if first < 0:
        return -1, ",", False
    return first, max(DELIMITERS, key=lambda one: (len(_first(lines[first:], one)), one != " ")), False


def _first(lines: Sequence[str], delimiter: str) -> list[str]:
    try:
        return next(_split(lines, delimiter, ""), [])
    except ReaderError:
        return []


def _split(lines: Sequence[str], delimiter: str, file: str) -> Iterator[list[str]]:
    source = (
        [f"{line}\n" for line in lines] if delimiter != " " else [" ".join(line.split()) for line in lines]
    )
    csv.field_size_limit(CELL)
    reader = csv.reader(source, delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        yield from reader
    except csv.Error as error:
        raise ReaderError(f"{file} is not a CSV table: line {reader.line_num}: {error}") from None


def _even(rows: Iterator[list[str]], wide: int, file: str) -> Iterator[list[str]]:
    for number, row in enumerate(rows, 1):
        if len(row) != wide or not row[0]:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) < wide and row[0].startswith(COMMENT):
                continue
            if any(cell.strip() for cell in row[wide:]):
                raise ReaderError(
                    f"{file} is not a CSV table: row {number} has {len(row)} cells, and its header {wide}"
                )
            row = row[:wide] + [""] * (wide - len(row))
        yield row


def _plain(name: str) -> str:
    composed = unicodedata.normalize("NFC", name)  # macOS writes é as e and an accent
    return " ".join(composed.split()).strip("\"'").casefold()
