"""Colour of 16 bits a sample, of which Pillow decodes the high byte alone.

Its raw modes RGB;16L and RGB;16B each take one byte of a sample. So an image is decoded twice, once for the
high bytes and once for the low ones. libtiff's separate planes (compressed) give no low byte: those are 0.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import ImageFile, TiffImagePlugin

from crater_ray.images.percentiles import percentiles

Array = np.ndarray[Any, Any]
_STEMS = ("RGB", "RGBX", "RGBA")  # RGBa, multiplied by its alpha, stays with Pillow
_SWAPPED = {"L": "B", "B": "L"}
_NATIVE = "L" if sys.byteorder == "little" else "B"
_STRIP = 1 << 20  # pixels that are counted at once


def samples(image: ImageFile.ImageFile, again: ImageFile.ImageFile, no_data: float | None) -> Array | None:
    """(H, W, 4) uint16 as stored, red, green, blue and alpha; None of an image that is no 16-bit colour.

    image, again: the same content, opened twice and not loaded. A pixel whose three samples are `no_data`, or
    the colour that a PNG calls transparent, has an alpha of 0. Raises what Pillow raises.
    """
    raws = _raws(image)
    if raws is None:
        return None
    key = image.info.get("transparency") if image.format == "PNG" else None
    high = _decoded(image, raws)
    planes = isinstance(image, TiffImagePlugin.TiffImageFile) and _planes(image) and len(raws) == 1
    found = np.empty((image.height, image.width, 4), np.uint16)
    found[:, :, 3] = 65535
    found[:, :, : high.shape[2]] = high
    found <<= 8
    if not planes:
        low = _decoded(again, [f"{raw[:-1]}{_SWAPPED[raw[-1]]}" for raw in raws])
        found[:, :, : high.shape[2]] |= low
    if high.shape[2] == 3 or planes:
        found[:, :, 3] |= found[:, :, 3] >> 8
    for colour in (key, None if no_data is None else (no_data,) * 3):
        if isinstance(colour, tuple):
            found[(found[:, :, :3] == np.array(colour)).all(axis=2), 3] = 0
    return found


def shown(found: Array, wanted: tuple[float, float]) -> Array:
    """(H, W, 4) uint16 -> (H, W, 3) uint8 over black: the two percentiles of all bands become 0 and 255."""

    def visible() -> Iterator[Array]:
        rows = max(1, _STRIP // found.shape[1])
        for top in range(0, len(found), rows):
            part = found[top : top + rows]
            yield part[part[:, :, 3] > 0][:, :3].reshape(-1)

    out = np.zeros((*found.shape[:2], 3), np.uint8)
    if ends := percentiles(visible, wanted):
        low, high = ends
        scale = 255.0 / (high - low) if high > low else 0.0
        spread = np.clip((np.arange(1 << 16) - low) * scale + 0.5, 0, 255).astype(np.uint8)
        for row, samples_, alpha in zip(out, found[:, :, :3], found[:, :, 3:], strict=True):
            row[:] = (spread[samples_] * alpha.astype(np.uint32) + 32767) // 65535
    return out


def mean(found: Array) -> Array:
    """(H, W, 4) uint16 -> (H, W) float32, the mean of the bands, NaN where nothing is shown."""
    values: Array = found[:, :, :3].mean(axis=2, dtype=np.float32)
    values[found[:, :, 3] == 0] = np.nan
    return values


def _planes(image: TiffImagePlugin.TiffImageFile) -> bool:
    return bool(image.tag_v2.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2)


def _raws(image: ImageFile.ImageFile) -> list[str] | None:
    """The raw mode of each tile that gives the high byte; None where samples are not colour of 16 bits.

    Of separate planes without compression Pillow names 8-bit raw modes, which would read the bytes of a
    sample as two samples; and it wants a band for the tiles of an extra one. Both are put right in
    `image.tile`.
    """
    if image.mode not in ("RGB", "RGBA"):
        return None
    raws = [_raw(tile) for tile in image.tile]
    if isinstance(image, TiffImagePlugin.TiffImageFile) and _planes(image) and len(raws) > 1:
        if set(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, ())) != {16} or "a" in raws:
            return None
        order = "L" if image.tag_v2.prefix == b"II" else "B"
        return [f"{raw[0]};16{order}" for raw in raws if raw[0] in image.mode]
    if not raws or not all(raw[:-1] in {f"{stem};16" for stem in _STEMS} for raw in raws):
        return None
    return [f"{raw[:-1]}{raw[-1].replace('N', _NATIVE)}" for raw in raws]


def _raw(tile: Any) -> str:
    return str(tile.args[0] if isinstance(tile.args, tuple) else tile.args)


def _decoded(image: ImageFile.ImageFile, raws: list[str]) -> Array:
    """(H, W, 3 or 4) uint8: one byte of each sample."""
    tiles = [tile for tile in image.tile if len(raws) == 1 or _raw(tile)[0] in image.mode]
    image.tile = [
        tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw)
        for tile, raw in zip(tiles, raws, strict=True)
    ]
    image.load()
    return np.asarray(image)
