"""A crater catalogue out of a CSV: ids, places in degrees east and north, diameters in kilometres."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from crater_ray.errors import ReaderError

Floats = NDArray[np.float64]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Columns:
    """The names a catalogue gives its columns; no id: a crater is called by its place."""

    id: str | None
    lat: str
    lon: str
    diameter: str  # kilometres


PRESETS: dict[str, Columns] = {
    "robbins_mars": Columns(
        "CRATER_ID", "LATITUDE_CIRCLE_IMAGE", "LONGITUDE_CIRCLE_IMAGE", "DIAM_CIRCLE_IMAGE"
    ),
    "robbins_moon": Columns("CRATER_ID", "LAT_CIRC_IMG", "LON_CIRC_IMG", "DIAM_CIRC_IMG"),
    "head_povilaitis": Columns("crater_id", "lat", "lon_e180", "diam_km"),
    "hkpolyu": Columns("crater_id", "lat", "lon_e180", "diam_km"),
    "craterpy": Columns(None, "Latitude", "Longitude", "Diameter (km)"),
}


@dataclass(frozen=True, slots=True)
class Catalogue:
    """N craters. lon is -180..180, whatever the file used."""

    ids: Sequence[str]
    lat: Floats
    lon: Floats
    diameter: Floats

    def __len__(self) -> int:
        return len(self.ids)

    def where(self, keep: NDArray[np.bool_]) -> Catalogue:
        """The craters of a mask, in the same order."""
        ids = [self.ids[row] for row in np.flatnonzero(keep).tolist()]
        return Catalogue(ids, self.lat[keep], self.lon[keep], self.diameter[keep])

    def inside(self, box: Box) -> NDArray[np.bool_]:
        """(N,) whether a centre is in [lon_min, lat_min, lon_max, lat_max]; lon_min > lon_max: over ±180°."""
        west, south, east, north = box
        width = (east - west) % 360.0 or 360.0
        return ((self.lon - west) % 360.0 <= width) & (self.lat >= south) & (self.lat <= north)


def read_catalogue(
    path: Path, columns: Columns, *, west_positive: bool = False, prefix: str = ""
) -> Catalogue:
    """Every crater of a CSV (or tab-separated) file, in file order.

    Raises ReaderError for a missing file or column, cells that are not numbers or off the globe, diameters
    not above 0, and an id that comes twice, naming column, count and first row.
    """
    numeric = (columns.lat, columns.lon, columns.diameter)
    table = _strings(path, [columns.id, *numeric] if columns.id else numeric)
    lat, lon, diameter = (_numbers(table, name, path) for name in numeric)
    _refuse(np.abs(lat) > 90, columns.lat, "beyond ±90", path)
    _refuse(np.abs(lon) > 360, columns.lon, "beyond ±360", path)
    _refuse(diameter <= 0, columns.diameter, "not above 0", path)
    lon = (np.where(west_positive, -lon, lon) + 180.0) % 360.0 - 180.0
    if columns.id:
        ids = [prefix + (text or "").strip() for text in table[columns.id].to_pylist()]
        _refuse(np.array([name == prefix for name in ids], bool), columns.id, "empty", path)
    else:
        ids = [prefix + place_name(a, b) for a, b in zip(lat.tolist(), lon.tolist(), strict=True)]
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        raise ReaderError(
            f"{path.name} has {len(twice)} crater id(s) more than once, among them "
            f"{twice[0]!r}; every crater needs its own"
        )
    return Catalogue(ids, lat, lon, diameter)


def place_name(lat: float, lon: float) -> str:
    """As s08.920e013.400."""
    return f"{'s' if lat < 0 else 'n'}{abs(lat):06.3f}{'w' if lon < 0 else 'e'}{abs(lon):07.3f}"


def _strings(path: Path, names: Sequence[str]) -> pa.Table:
    """The named columns as text; header names are matched without regard to case."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            line = file.readline()
        delimiter = max(",\t;", key=line.count)
        header = [name.strip().strip('"') for name in line.rstrip("\r\n").split(delimiter)]
        found = {name.lower(): number for number, name in enumerate(header)}
        missing = [name for name in names if name.lower() not in found]
        if missing:
            raise ReaderError(
                f"{path.name} has no column {missing[0]!r}; it has {', '.join(header[:20])}; "
                "choose another preset, or name the columns with the *_column options"
            )
        # columns go by number: a published header may hold one name twice
        numbers = [str(number) for number in range(len(header))]
        wanted = [str(found[name.lower()]) for name in names]
        table = pa_csv.read_csv(
            path,
            read_options=pa_csv.ReadOptions(column_names=numbers, skip_rows=1),
            parse_options=pa_csv.ParseOptions(delimiter=delimiter),
            convert_options=pa_csv.ConvertOptions(
                include_columns=wanted,
                strings_can_be_null=True,
                column_types=dict.fromkeys(wanted, pa.string()),
            ),
        )
    except OSError as error:
        raise ReaderError(f"cannot read the catalogue {path}: {error.strerror or error}") from None
    except pa.ArrowInvalid as error:
        raise ReaderError(f"{path.name} is not a CSV table: {error}") from None
    return table.rename_columns(list(names))


def _numbers(table: pa.Table, name: str, path: Path) -> Floats:
    text = pc.utf8_trim_whitespace(table[name])
    try:
        values: Floats = pc.cast(text, pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        values = np.array([_number(one) for one in text.to_pylist()])
    _refuse(~np.isfinite(values), name, "not numbers", path, text)
    return values


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _refuse(
    bad: NDArray[np.bool_], name: str, what: str, path: Path, text: pa.ChunkedArray | None = None
) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        cell = f" ({text[row].as_py()!r})" if text is not None else ""
        raise ReaderError(
            f"{path.name}: {int(bad.sum())} of {len(bad)} cells of column {name!r} are {what}, "
            f"the first in row {row + 1}{cell}; mend or drop these rows"
        )
