"""An image of unknown place, and square windows cut out of it at any angle."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window
from scipy.ndimage import map_coordinates
from skimage.transform import resize

from crater_ray.errors import BadImage, ReaderError, UserError
from crater_ray.images import grey as image_grey
from crater_ray.images import known, orientation
from crater_ray_catalogue.stage import key
from crater_ray_mosaic.samples import rule_of, samples
from crater_ray_mosaic.shade import greys, stretched

Floats = NDArray[np.float32]
MOST_PIXELS = 64_000_000
HEAD = 16  # bytes that say a format
SMALLEST = 64  # pixels a side
FINE = 1.5  # image pixels a window's pixel, beyond which the image is halved first


@dataclass(frozen=True)
class Scene:
    """One image. Pixels are counted from the middle of the upper left one, x right and y down."""

    grey: Floats  # (H, W), NaN without data
    name: str

    @property
    def width(self) -> int:
        return int(self.grey.shape[1])

    @property
    def height(self) -> int:
        return int(self.grey.shape[0])

    @cached_property
    def digest(self) -> str:
        return key(self.grey.shape, hashlib.sha256(self.grey.tobytes()).hexdigest())

    @cached_property
    def filled(self) -> Floats:
        """(H, W): the mean where there are no data."""
        return np.where(np.isfinite(self.grey), self.grey, np.nanmean(self.grey)).astype(np.float32)

    @cached_property
    def levels(self) -> list[Floats]:
        """The image, then halved again and again."""
        found = [self.filled]
        while min(found[-1].shape) > 2 * SMALLEST:
            high, wide = found[-1].shape
            half = resize(found[-1], (high // 2, wide // 2), anti_aliasing=True, preserve_range=True)
            found.append(half.astype(np.float32))
        return found

    def window(self, x: float, y: float, width: float, angle: float, size: int) -> NDArray[np.uint8]:
        """(size, size, 3): the square about (x, y), `width` pixels wide, up at `angle` degrees clockwise.

        Greys spread from the 1st to the 99th percentile, as views of relief are; what lies outside the image
        has their mean.
        """
        across = ((np.arange(size) + 0.5) / size - 0.5) * width
        right, up = across[None, :], -across[:, None]
        sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
        columns, rows = x + right * cosine + up * sine, y + right * sine - up * cosine
        coarse = max(0, math.ceil(math.log2(max(width / size / FINE, 1.0))))
        level = self.levels[min(coarse, len(self.levels) - 1)]
        fine = level.shape[1] / self.width, level.shape[0] / self.height
        at = np.stack([(rows + 0.5) * fine[1] - 0.5, (columns + 0.5) * fine[0] - 0.5])
        values = map_coordinates(level, at, order=1, mode="nearest").astype(np.float32)
        outside = (columns < -0.5) | (columns > self.width - 0.5) | (rows < -0.5) | (rows > self.height - 0.5)
        values, _ = stretched(np.where(outside, np.nan, values).astype(np.float32))
        return np.repeat(greys(values, outside)[..., None], 3, axis=2)

    def inside(self, x: float, y: float, width: float) -> float:
        """The share of the upright square about (x, y) that the image holds."""
        half = width / 2
        across = min(x + half, self.width - 0.5) - max(x - half, -0.5)
        down = min(y + half, self.height - 0.5) - max(y - half, -0.5)
        return max(across, 0.0) * max(down, 0.0) / width**2


def read_scene(path: Path) -> Scene:
    """The image as it looks, upright, bands averaged, in its own depth; NaN where it shows nothing.

    Photographs and pictures go through crater_ray.images as everywhere; rasters (a place on the ground, a
    mask, no data, other bands or formats) through GDAL. Raises UserError for a file that is none, or of
    another size.
    """
    try:
        grey = _grey(path)
    except (BadImage, ReaderError, RasterioError, OSError) as error:
        raise UserError(f"cannot read the image {path}: {error}") from None
    if min(grey.shape) < SMALLEST:
        raise UserError(
            f"{path.name} is {grey.shape[1]} x {grey.shape[0]} pixels; give {SMALLEST} or more a side"
        )
    if not np.nanstd(grey) > 0 if np.isfinite(grey).any() else True:
        raise UserError(f"{path.name} shows one grey and nothing else")
    return Scene(grey, path.stem)


def turn_of(path: Path) -> int:
    """The EXIF orientation that `read_scene` undoes, 1 where it undoes none."""
    with path.open("rb") as file:
        format = known(file.read(HEAD))
    if format is None or (format == "TIFF" and _is_raster(path)):
        return 1
    return orientation(path.read_bytes())


def _grey(path: Path) -> Floats:
    with path.open("rb") as file:
        format = known(file.read(HEAD))
    if format is None or (format == "TIFF" and _is_raster(path)):
        return _raster(path)
    values: Floats = image_grey(path.read_bytes(), MOST_PIXELS)
    return values


def _is_raster(path: Path) -> bool:
    """Whether a TIFF says what pictures do not: a place, a mask, no data, or samples of other types."""
    with _opened(path) as file:
        flags = {flag for band in file.mask_flag_enums for flag in band}
        return (
            bool(file.crs)
            or not file.transform.is_identity
            or file.nodata is not None
            or bool(flags - {MaskFlags.all_valid, MaskFlags.alpha, MaskFlags.per_dataset})
            or (MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags)
            or file.count not in (1, 3, 4)
            or file.dtypes[0] not in ("uint8", "uint16", "float32")
        )


def _raster(path: Path) -> Floats:
    with _opened(path) as file:
        if file.width * file.height > MOST_PIXELS:
            raise UserError(
                f"{path.name} has {file.width} x {file.height} pixels, more than {MOST_PIXELS:,}; cut it up"
            )
        bands = list(range(1, min(file.count, 3) + 1)) if file.count >= 3 else [1]
        shape, whole = (file.height, file.width), Window(0, 0, file.width, file.height)
        values = samples(file, bands, whole, shape, rule_of(file, bands))
        if file.colorinterp[0] == ColorInterp.palette:
            colours = file.colormap(1)
            table = np.full(max(colours) + 2, np.nan)  # an index without a colour shows nothing
            for index, (red, green, blue, alpha) in colours.items():
                table[index] = (red + green + blue) / 3 if alpha else np.nan
            values = table[np.where(np.isfinite(values), values, -1).astype(int)]
        if values.dtype != np.float32 and np.isfinite(values).any():
            values = values - np.nanmin(values)  # large offsets keep their digits
        grey: Floats = values.mean(axis=0, dtype=np.float32)
        return grey


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            yield file
