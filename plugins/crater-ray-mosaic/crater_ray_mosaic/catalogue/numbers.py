"""Cells of text to numbers: 1.5, 1,5, 1 234.5, 1.5N, 2.5W, 10°30'S, 3 km."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from crater_ray.errors import ReaderError
from crater_ray_mosaic.catalogue.craters import Floats

MISSING = frozenset(
    {"", "nan", "na", "n/a", "#n/a", "null", "none", "-", "--", "---", "-999", "-9999", "-999.0", "-9999.0"}
)
_BLANKS = re.compile("(?<=\\d)[ \u00a0\u2009\u202f'\u2019](?=\\d{3}(\\D|$))")
_CELL = re.compile(
    r"(?P<before>[NSEW])?\s*(?P<sign>[+-]?)\s*(?P<number>[\d.,]+(?:[eE][+-]?\d+)?)"
    r"\s*(?:°|º|deg\b|degrees\b)?\s*(?P<after>[NSEW]|km|m)?",
    re.IGNORECASE,
)
_SIXTIES = re.compile(
    r"(?P<before>[NSEW])?\s*(?P<sign>[+-]?)\s*(?P<degrees>\d+)\s*[°ºd]\s*"
    r"(?P<minutes>\d+(?:\.\d+)?)\s*['′’]\s*(?:(?P<seconds>\d+(?:\.\d+)?)\s*(?:[\"″”]|''))?"
    r"\s*(?P<after>[NSEW])?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Numbers:
    """(N,) values, NaN where a cell is empty or no number."""

    values: Floats
    lettered: Floats  # (N,) 1 where a cell said its direction or unit itself: it is east, north, km already
    empty: Floats  # (N,) 1 where there is nothing in a cell
    texts: Sequence[Any]


def numbers(cells: Sequence[Any], letters: Sequence[str] = (), mark: str = ".") -> Numbers:
    """The numbers of a column. letters: the directions or units its cells may name (n, s, e, w, km, m).

    mark: what stands before decimals. Numbers are those that Python's float() gives.
    """
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "fiu":
        values = cells.astype(np.float64)
        return Numbers(values, np.zeros(len(values)), np.isnan(values) * 1.0, cells)
    try:
        texts = pa.array(cells, pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # cells of several types
        texts = pa.array([_shown(cell) for cell in cells], pa.string())
    trimmed = pc.utf8_trim_whitespace(texts)
    try:
        values = pc.cast(trimmed, pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        pass
    else:
        return Numbers(values, np.zeros(len(values)), np.isnan(values) * 1.0, cells)
    stripped = [text or "" for text in trimmed.to_pylist()]
    found = [_number(text, letters, mark) for text in stripped]
    empty = np.array([text.lower() in MISSING for text in stripped], np.float64)
    values = np.array([value for value, _ in found], np.float64)
    values[empty == 1] = np.nan
    return Numbers(values, np.array([own for _, own in found], np.float64), empty, cells)


def decimal_mark(angles: Iterable[Sequence[Any]], lengths: Iterable[Sequence[Any]], file: str) -> str:
    """What stands before decimals in a table's number columns, "." or ",".

    Degrees are below 1,000, so their only mark is decimal. Raises ReaderError where both marks are, or where
    lengths such as 1,234 may be either.
    """
    shown: dict[str, str] = {}  # mark -> a cell that shows it
    for cells in angles:
        for core, text in _marked(cells):
            shown.setdefault(_last(core), text)
    unclear = ""
    for cells in lengths:
        for core, text in _marked(cells):
            if "." in core and "," in core:
                shown.setdefault(_last(core), text)
            elif re.fullmatch(r"\d{1,3}([.,]\d{3}){2,}", core):
                shown.setdefault("," if "." in core else ".", text)
            elif re.fullmatch(r"[1-9]\d{0,2}[.,]\d{3}", core):
                unclear = text if "," in core else unclear
            else:
                shown.setdefault(_last(core), text)
    if len(shown) == 2:
        raise ReaderError(
            f"{file} has numbers with a point ({shown['.'].strip()}) and with a decimal comma "
            f"({shown[','].strip()}); write all of them alike"
        )
    if unclear and not shown:
        raise ReaderError(
            f"{file}: {unclear.strip()} may have a decimal comma or a thousands separator; "
            "write it with a point"
        )
    return next(iter(shown), ".")


def _marked(cells: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """The digits and marks of each cell that has a mark, and the cell."""
    if isinstance(cells, np.ndarray):
        return
    for cell in cells:
        text = str(cell)
        found = re.search(r"\d[\d.,]*[.,][\d.,]*", _BLANKS.sub("", text))
        if found:
            yield found[0], text


def _last(core: str) -> str:
    return "." if core.rfind(".") > core.rfind(",") else ","


def _shown(cell: Any) -> str | None:
    return None if cell is None or cell != cell else str(cell)


def _number(text: str, letters: Sequence[str], mark: str) -> tuple[float, bool]:
    """A cell's value, and whether it said its direction or unit itself. NaN where it is no number."""
    text = _BLANKS.sub("", text.replace("\u2212", "-").strip())
    try:
        if "," not in text and mark == ".":
            return float(text), False
    except ValueError:
        pass
    if found := _SIXTIES.fullmatch(text):
        value = float(found["degrees"]) + float(found["minutes"]) / 60 + float(found["seconds"] or 0) / 3600
    elif found := _CELL.fullmatch(text):
        value = _plain(found["number"], mark)
    else:
        return float("nan"), False
    if found["before"] and found["after"]:
        return float("nan"), False
    letter = (found["before"] or found["after"] or "").lower()
    if letter and letter not in letters:
        return float("nan"), False
    if letter == "m":
        value /= 1000.0
    return (-value if (found["sign"] == "-") != (letter in ("s", "w")) else value), bool(letter)


def _plain(text: str, mark: str) -> float:
    """A number whose thousands may be set apart by the other mark."""
    other = "," if mark == "." else "."
    whole, _, rest = text.partition(mark)
    if other in rest or mark in rest:
        return float("nan")
    if other in whole:
        if not re.fullmatch(rf"\d{{1,3}}({re.escape(other)}\d{{3}})+", whole):
            return float("nan")
        whole = whole.replace(other, "")
    try:
        return float(f"{whole}.{rest}" if rest else whole)
    except ValueError:
        return float("nan")
