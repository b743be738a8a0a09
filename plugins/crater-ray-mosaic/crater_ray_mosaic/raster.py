"""A raster as a function of latitude and longitude, read by windows, whatever its projection."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from crater_ray.errors import ReaderError
from crater_ray.images import Rule
from crater_ray_mosaic.extent import Extent, checked
from crater_ray_mosaic.figure import of_body
from crater_ray_mosaic.frame import ROUNDING, Frame, dataset_name, frame_of
from crater_ray_mosaic.interpolation import bilinear
from crater_ray_mosaic.samples import WIDE, rule_of, samples
from crater_ray_mosaic.seams import held, regions, stride
from crater_ray_mosaic.source import Source, UnreadableRaster

FINE = 1 << 24  # pixels of a window, up to which it is read as stored where the projection ends


class Raster:
    """Values of a raster at any latitude and longitude. Thread-safe: GDAL handles are not shared."""

    def __init__(
        self,
        path: Path | str,
        *,
        radius_km: float | None = None,
        body: str = "",
        body_from: str = "",
        crs: str | None = None,
        extent: Extent | None = None,
        nodata: float | None = None,
        bands: tuple[int, ...] | None = None,
    ) -> None:
        """body: a name that the IAU knows, and `body_from` where it is said, as `preset = "robbins_moon"`.

        Raises ReaderError when the file cannot be read or placed on a body of known size, and where two
        statements about its place or its body disagree.
        """
        self.path = Path(path)
        if extent is not None:
            checked(Source(dataset_name(self.path, None, None), self.path), extent, self.path.name)
        self._name = dataset_name(self.path, extent, nodata)
        self._source = Source(self._name, self.path)

        def described(handle: Any) -> tuple[Frame, Rule]:
            frame = frame_of(
                handle,
                self.path,
                radius_km=radius_km,
                bands=bands,
                body=of_body(body, body_from),
                crs=crs,
                extent=extent,
            )
            return frame, rule_of(handle, frame.bands)

        try:
            self.frame, self.rule = self._source.ask(described)
        except UnreadableRaster:
            if self.path.exists() or self._name != str(self.path):
                raise
            raise ReaderError(f"raster {self.path} does not exist") from None

    def sample(
        self,
        lon: float,
        lats: NDArray[np.float64],
        east: NDArray[np.float64],
        spacing_km: float,
        undeclared: set[float] | None = None,
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Bilinear values at (lats, lon + east), averaged beforehand over cells of about `spacing_km`.

        lats, east (S, S) degrees, NaN where there is no place; spacing_km between neighbouring points.
        A cell is the mean of its measurements; between cells without any see `bilinear`. `undeclared` takes
        the values that stand for no data though the file does not say so.
        -> (S, S) or (S, S, B) float32, float64 for types of more digits, NaN without a measurement;
        (S, S) bool, True outside the raster. Raises UnreadableRaster.
        """
        f = self.frame
        rows, columns = f.pixels(lats, lon, east)
        outside = ~((rows >= -0.5) & (rows <= f.height - 0.5))
        if not f.wraps:
            outside |= ~((columns >= -0.5) & (columns <= f.width - 0.5))
        shape = lats.shape if len(f.bands) == 1 else (*lats.shape, len(f.bands))
        if outside.all():
            return np.full(shape, np.nan, np.float32), outside
        down, across = self._cell(lats, rows, columns, spacing_km)
        rows, columns = np.where(outside, np.nan, rows), np.where(outside, np.nan, columns)
        if f.plane is None:
            return self._interpolated(rows, columns, down, across, undeclared), outside
        values = np.full(shape, np.nan, np.float64 if self.rule.dtype in WIDE else np.float32)
        for some in regions(rows, columns):
            wanted = np.where(some, rows, np.nan), np.where(some, columns, np.nan)
            values[some] = self._interpolated(*wanted, down, across, undeclared)[some]
        return values, outside

    def _cell(
        self,
        lats: NDArray[np.float64],
        rows: NDArray[np.float64],
        columns: NDArray[np.float64],
        spacing_km: float,
    ) -> tuple[float, float]:
        """Rows and columns of the raster from one point to the next, 1 at least: what is averaged over."""
        f = self.frame
        if f.plane is not None:
            return stride(rows), stride(columns)
        widest = math.cos(math.radians(float(np.nanmin(np.abs(lats)))))  # of the view's parallels
        column = f.kilometres * abs(f.step_lon / f.step_lat)
        return max(1.0, spacing_km / f.kilometres), max(1.0, spacing_km / (column * max(widest, 1e-9)))

    def _interpolated(
        self,
        rows: NDArray[np.float64],
        columns: NDArray[np.float64],
        down: float,
        across: float,
        undeclared: set[float] | None,
    ) -> NDArray[Any]:
        """Bilinear values at fractional pixels, (S, S) each, between cells of about down x across pixels."""
        f = self.frame
        top, bottom = _span(rows, down, 0, f.height)
        left, right = _span(columns, across, *((None, None) if f.wraps else (0, f.width)))
        pieces, centres = [], []
        for start, stop, shift in _pieces(left, right, f.turn, f.width) if f.wraps else [(left, right, 0)]:
            piece, at = self._read(top, bottom, start, stop, down, across, undeclared)
            pieces.append(piece)
            centres.append(at + shift)
        block = np.concatenate(pieces, axis=2)
        where = _place(rows, _centres(top, bottom, block.shape[1])), _place(columns, np.concatenate(centres))
        if f.plane is None or (off := self._off_globe(top, bottom, left, right, *block.shape[1:])) is None:
            return bilinear(block, *where)
        values = bilinear(held(block, off), *where)
        if max(down, across) > 1.0 and (bottom - top) * (right - left) <= FINE:
            edge = bilinear(off[None].astype(np.float32), *where) > 0  # looked at again, as stored
            there = np.where(edge, rows, np.nan), np.where(edge, columns, np.nan)
            fine = self._interpolated(*there, 1.0, 1.0, undeclared)
            values[edge] = fine[edge]
        return values

    def _off_globe(
        self, top: int, bottom: int, left: int, right: int, high: int, wide: int
    ) -> NDArray[np.bool_] | None:
        """(high, wide) cells of a window that reach off the globe, or None; a pixel does by its centre."""
        plane = self.frame.plane
        if plane is None:
            return None
        if (high, wide) == (bottom - top, right - left):
            return plane.off_globe(_centres(top, bottom, high), _centres(left, right, wide))
        edges = np.linspace(top - 0.5, bottom - 0.5, high + 1), np.linspace(left - 0.5, right - 0.5, wide + 1)
        off = plane.off_globe(*edges)
        return None if off is None else off[1:, 1:] | off[1:, :-1] | off[:-1, 1:] | off[:-1, :-1]

    def no_measurement(self, undeclared: Iterable[float] = ()) -> str:
        """Which values stand for no data, in words; `undeclared`: those that `sample` found."""
        found = [f"{value:.9g} (not declared)" for value in sorted(undeclared)]
        return ", ".join(filter(None, [self.rule.told(), *found]))

    def files(self) -> list[str]:
        """Every file GDAL reads for it: itself, a VRT's tiles, overviews beside it."""
        return self._source.ask(lambda handle: list(handle.files))

    def holds(self, lat: float, lon: float) -> bool:
        """Whether a place is inside the raster's extent."""
        return bool(self.frame.holds(np.array([lat]), np.array([lon]))[0])

    def _read(
        self,
        top: int,
        bottom: int,
        left: int,
        right: int,
        down: float,
        across: float,
        undeclared: set[float] | None,
    ) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """(B, h, w) of a window in cells of at most down x across pixels, and its column centres."""
        f = self.frame
        high, wide = math.ceil((bottom - top) / down), math.ceil((right - left) / across)
        window = Window(left, top, right - left, bottom - top)
        values = self._source.ask(
            lambda handle: samples(handle, list(f.bands), window, (high, wide), self.rule, undeclared),
            window,
        )
        return values, _centres(left, right, wide)


def _span(at: NDArray[np.float64], cell: float, low: int | None, high: int | None) -> tuple[int, int]:
    """First and one past the last pixel that bilinear sampling between cells touches."""
    start, stop = math.floor(np.nanmin(at) - cell + 1), math.floor(np.nanmax(at) + cell) + 1
    return (start if low is None else max(start, low)), (stop if high is None else min(stop, high))


def _pieces(left: int, right: int, turn: float, width: int) -> list[tuple[int, int, float]]:
    """Columns left..right of an endless raster as windows of its own: start, stop, shift back.

    A copy of the raster lies every `turn` columns. Where two overlap, the later one is used.
    """
    kept = min(width, math.ceil(turn - ROUNDING))
    if turn != round(turn):  # up to two columns lie between the last centre and the next copy's first
        left, right = left - 1, right + 1
    pieces = []
    for copy in range(math.floor(left / turn) - 1, math.floor(right / turn) + 1):
        shift = copy * turn
        start, stop = max(0, math.floor(left - shift)), min(kept, math.ceil(right - shift))
        if start < stop:
            pieces.append((start, stop, shift))
    return pieces


def _centres(start: int, stop: int, n: int) -> NDArray[np.float64]:
    """Of n equal cells over pixels start..stop, where pixel k has its centre at k."""
    return np.asarray(start - 0.5 + (np.arange(n) + 0.5) * ((stop - start) / n), np.float64)


def _place(at: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fractional indices into `centres`, held at both ends; NaN stays."""
    places: NDArray[np.float64] = np.interp(at, centres, np.arange(len(centres), dtype=np.float64))
    return places
