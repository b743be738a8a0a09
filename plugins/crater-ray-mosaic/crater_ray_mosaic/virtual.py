"""The files that a virtual raster is made of, as its XML names them, and where each of them lies in it.

GDAL opens a tile when a window touches it, and keeps in a pool, for the whole process, that it could not be
opened: it says so once, and gives zeros from then on. So tiles are looked at before GDAL is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

DEEPEST = 16  # VRTs over VRTs; a ring of them ends here
Place = tuple[float, float, float, float]  # scale and offset of columns, then of rows
WHOLE = 1e12  # pixels: a source without a place is everywhere


@dataclass(frozen=True, slots=True)
class Tile:
    """A file, and its columns and rows in the outermost raster."""

    path: Path
    left: float
    right: float
    top: float
    bottom: float

    def touches(self, left: float, right: float, top: float, bottom: float) -> bool:
        """Whether a window of pixels has any of it, one pixel around for GDAL's resampling."""
        return (
            self.left < right + 1
            and left - 1 < self.right
            and self.top < bottom + 1
            and top - 1 < self.bottom
        )


def tiles(path: Path, place: Place = (1.0, 0.0, 1.0, 0.0), depth: int = 0) -> Iterator[Tile]:
    """Every file below a VRT, those of VRTs in it too; none of another file."""
    if path.suffix.lower() != ".vrt" or depth > DEEPEST:
        return
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError):  # GDAL says what is wrong with it
        return
    for source in root.iter():
        named = source.find("SourceFilename")
        named = source.find("SourceDataset") if named is None else named
        if named is None or not named.text:
            continue
        name = named.text.strip()
        if name.startswith("/vsi") or ":" in name or "<" in name:
            continue
        file = path.parent / name if named.get("relativeToVRT") == "1" else Path(name)
        inner = _place(source, place)
        yield _tile(file, source, place)
        yield from tiles(file, inner, depth + 1)


def _tile(file: Path, source: ElementTree.Element, place: Place) -> Tile:
    there = _rectangle(source, "DstRect")
    if there is None:
        return Tile(file, -WHOLE, WHOLE, -WHOLE, WHOLE)
    x, y, wide, high = there
    across, x_0, down, y_0 = place
    return Tile(file, x_0 + across * x, x_0 + across * (x + wide), y_0 + down * y, y_0 + down * (y + high))


def _place(source: ElementTree.Element, place: Place) -> Place:
    """Where the pixels of a source lie in the outermost raster."""
    taken, there = _rectangle(source, "SrcRect"), _rectangle(source, "DstRect")
    if taken is None or there is None or not taken[2] or not taken[3]:
        return place
    across, x_0, down, y_0 = place
    wide, high = there[2] / taken[2], there[3] / taken[3]
    return (
        across * wide,
        x_0 + across * (there[0] - taken[0] * wide),
        down * high,
        y_0 + down * (there[1] - taken[1] * high),
    )


def _rectangle(source: ElementTree.Element, name: str) -> tuple[float, float, float, float] | None:
    found = source.find(name)
    if found is None:
        return None
    try:
        x, y, wide, high = (float(found.get(key, "nan")) for key in ("xOff", "yOff", "xSize", "ySize"))
    except ValueError:
        return None
    return (x, y, wide, high) if x == x and y == y and wide == wide and high == high else None
