"""Text files that list images and overlaps, as other programs write them; and when an image has changed."""

from __future__ import annotations

import csv
import errno
import io
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from crater_ray.errors import ReaderError
from crater_ray.text import decoded

DELIMITERS = (",", ";", "\t", "|")
NOT_MEASURED = frozenset(("", "nan", "na", "n/a", "null", "none"))
YES = frozenset(("true", "t", "yes", "y"))
NO = NOT_MEASURED | {"false", "f", "no", "n"}
ROUNDING = 1e-6  # how far beyond 0..1 an overlap may lie
_GONE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG))


def text_of(path: Path) -> str:
    """The file's text, as `crater_ray.text` decodes it. Raises ReaderError where it is missing or no text."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ReaderError(f"cannot read {path}: {error.strerror or error}") from None
    return decoded(data, str(path))


def lines_of(path: Path) -> list[tuple[int, str]]:
    """(number from 1, text) of each line that is not blank. Raises ReaderError as `text_of` does."""
    every = enumerate(re.split(r"\r\n|\n|\r", text_of(path)), 1)  # a name may hold U+2028: no splitlines
    return [(number, line.strip(" \t")) for number, line in every if line.strip()]


def image_uri(path: Path, line: int, name: str, below: Sequence[str] = ()) -> str:
    """An image's path as readers take it: forward slashes, relative, of what follows a folder of `below`.

    Raises ReaderError for a name that leads out of its folder.
    """
    steps = name.replace("\\", "/").split("/")
    first = next((at for at, step in enumerate(steps[:-1]) if step in below), -1)
    found = str(PurePosixPath(*steps[first + 1 :])) if first >= 0 else str(PurePosixPath("/".join(steps)))
    if found in ("", ".") or found.startswith("/") or re.match("[A-Za-z]:", found) or ".." in steps:
        raise ReaderError(
            f"{path}, line {line}: {name[:80]!r} leads out of the folder of images; write relative paths"
        )
    return found


def distinct(path: Path, names: Sequence[tuple[int, str]]) -> list[str]:
    """The names of (line, name). Raises ReaderError where there is none, or one comes twice."""
    if not names:
        raise ReaderError(f"{path} lists no image")
    seen: dict[str, int] = {}
    for line, name in names:
        if name in seen:
            raise ReaderError(
                f"{path}, line {line}: {name!r} is listed before, on line {seen[name]}; list each image once"
            )
        seen[name] = line
    return list(seen)


def stamp(root: Path, uri: str) -> str:
    """Size and time of change of an image, as the reader `folder` has it; "gone" where there is none."""
    try:
        status = (root / uri).stat()
    except OSError as error:
        if error.errno in _GONE:
            return "gone"
        raise ReaderError(f"cannot read {root / uri}: {error.strerror or error}") from None
    return f"{status.st_size}-{status.st_mtime_ns}"


def rows_of(
    path: Path, required: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, cells by column) of a CSV file with , ; tab or | between cells; blank rows are passed over.

    Column names are compared without case and spaces. Raises ReaderError for a file without a required
    column, with a column twice, or with a row of too few or too many cells.
    """
    text = text_of(path)
    delimiter, start, names = _header(path, text, required)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    wanted = {name: names.index(name) for name in (*required, *optional) if name in names}
    try:
        for cells in reader:
            line, cells = reader.line_num, [cell.strip(" \t") for cell in cells]
            if line <= start or not any(cells):
                continue
            if len(cells) <= max(wanted.values()) or any(cells[len(names) :]):
                raise ReaderError(
                    f"{path}, line {line}: {len(cells)} cells where the header has {len(names)}; quote "
                    "names with a delimiter in them"
                )
            yield line, {name: cells[at] for name, at in wanted.items()}
    except csv.Error as error:
        raise ReaderError(f"{path}, line {reader.line_num}: {error}") from None


def _header(path: Path, text: str, required: Sequence[str]) -> tuple[str, int, list[str]]:
    """Delimiter, line and columns of the header; comments and Excel's sep= before it are passed over."""
    first: list[str] = []
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        if not line.strip() or re.fullmatch(r"sep=.", line.strip()):
            continue
        for delimiter in DELIMITERS:
            cells = [cell.strip(" \t\"'").casefold() for cell in line.lstrip("# ").split(delimiter)]
            first = first or cells
            if all(name in cells for name in required):
                twice = next((name for name in cells if name and cells.count(name) > 1), None)
                if twice is not None:
                    raise ReaderError(f"{path}, line {number}: the column {twice!r} is there twice")
                while not cells[-1]:  # trailing delimiters
                    cells.pop()
                return delimiter, number, cells
        if not line.startswith("#"):
            break
    missing = next((name for name in required if name not in first), required[0])
    raise ReaderError(f"{path} has no column {missing!r}; it has {', '.join(first)[:200]}")


def overlap_of(path: Path, line: int, column: str, text: str) -> float | None:
    """An overlap in 0..1, from a number or a percentage; None where nobody measured it (empty, NaN).

    Raises ReaderError for another value.
    """
    if text.casefold() in NOT_MEASURED:
        return None
    number, scale = text.removesuffix("%").strip(), 0.01 if text.endswith("%") else 1.0
    if re.fullmatch(r"[+-]?\d*,\d+", number):  # a decimal comma
        number = number.replace(",", ".")
    try:
        value = float(number) * scale
    except ValueError:
        raise ReaderError(f"{path}, line {line}: {column} is {text[:60]!r}, not a number") from None
    if math.isfinite(value) and -ROUNDING <= value <= 1 + ROUNDING:
        return min(max(value, 0.0), 1.0)
    hint = "; write percentages as 50 % or 0.5" if 1 < value <= 100 else ""
    raise ReaderError(f"{path}, line {line}: {column} is {text[:60]}, which is not in 0..1{hint}")


def flag_of(path: Path, line: int, column: str, text: str) -> bool:
    """1, 1.0, true, yes: True; 0, 0.0, false, no, NaN or an empty cell: False.

    Raises ReaderError for another value.
    """
    word = text.casefold()
    if word in YES or word in NO:
        return word in YES
    try:
        return {0.0: False, 1.0: True}[float(word)]
    except (ValueError, KeyError):
        raise ReaderError(f"{path}, line {line}: {column} is {text[:60]!r}; write 1 or 0") from None


def indices_of(path: Path, line: int, text: str, count: int, listed: str) -> tuple[int, int, list[str]]:
    """The two images, counted from 0, that a line "i j …" names, and the words that follow.

    Raises ReaderError for a line of another form, or an image beyond the `count` of the file `listed`.
    """
    words = text.split() if len(text.split()) > 1 else re.split("[,;]", text)
    try:
        numbers = [float(word) for word in words[:2]]  # numpy.savetxt writes 3.0e+00
        first, second = (int(number) for number in numbers)
        if [first, second] != numbers:
            raise ValueError
    except (ValueError, OverflowError):
        raise ReaderError(f"{path}, line {line}: {text[:60]!r} is not 'image image overlap'") from None
    if min(first, second) < 0 or max(first, second) >= count:
        beyond = first if not 0 <= first < count else second
        raise ReaderError(
            f"{path}, line {line} names image {beyond}, but {listed} has {count}, counted from 0"
        )
    return first, second, [word.strip() for word in words[2:]]
