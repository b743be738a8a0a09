"""An image of unknown place, and square windows cut out of it at any angle."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from scipy.ndimage import map_coordinates
from skimage.transform import resize

from crater_ray.errors import UserError
from crater_ray_catalogue.stage import key
from crater_ray_mosaic.shade import greys, stretched

Floats = NDArray[np.float32]
MOST_PIXELS = 64_000_000
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
        return key(self.grey.shape, self.grey.tobytes().hex()[:64], float(np.nansum(self.grey)))

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
    """The image, bands averaged, 8 bits or more.

    Raises UserError for a file that is none, or of another size.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                if file.width * file.height > MOST_PIXELS:
                    raise UserError(
                        f"{path.name} has {file.width} x {file.height} pixels, "
                        f"more than {MOST_PIXELS:,}; cut it up"
                    )
                bands = [band for band in range(1, min(file.count, 3) + 1)]
                values: NDArray[Any] = file.read(bands, masked=True).astype(np.float32).filled(np.nan)
    except RasterioIOError as error:
        raise UserError(f"cannot read the image {path}: {error}") from None
    grey = values.mean(0, dtype=np.float32)
    if min(grey.shape) < SMALLEST:
        raise UserError(
            f"{path.name} is {grey.shape[1]} x {grey.shape[0]} pixels; give {SMALLEST} or more a side"
        )
    if not np.nanstd(grey) > 0 if np.isfinite(grey).any() else True:
        raise UserError(f"{path.name} shows one grey and nothing else")
    return Scene(grey, path.stem)
