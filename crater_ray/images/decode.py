"""The gate between what a reader gives and what a backbone sees: pixels, or a BadImage that says why not."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from crater_ray.errors import BadImage
from crater_ray.images import colour
from crater_ray.images.formats import format_of, tag_of, turned, unread, upright
from crater_ray.images.measured import Rule, measured
from crater_ray.images.percentiles import percentiles

Array = np.ndarray[Any, Any]
SMALLEST = 8  # pixels a side: less than one patch of any ViT
LOW, HIGH = 1.0, 99.0  # percentiles that become 0 and 255 where samples have more than 8 bits
MOST_PIXELS = 1 << 30  # of an image of which a window is wanted
Crop = tuple[int, int, int, int]  # x, y, width, height in pixels from the upper left
STRIP = 1 << 20  # samples that are stretched at once
_NODATA = 42113  # TIFF tag GDAL_NODATA, text


def pixels(data: bytes | Array, max_pixels: int, crop: Crop | None = None) -> Array:
    """(H, W, 3) uint8, C-contiguous and writable, of an encoded image or an (H, W[, 1 or 3]) uint8 array.

    The first frame, turned upright by its EXIF tag, transparency and no data over black. Samples of more
    than 8 bits are stretched from their 1st to their 99th percentile, those without a measurement left out.
    With `crop` as of a file that holds that window of the upright image alone.
    Raises BadImage with a short reason, always the same for the same data; the pixel count is checked before
    anything is decoded.
    """
    if isinstance(data, np.ndarray):
        if crop is not None:
            data = data[_window(crop, data.shape[1], data.shape[0])]
        return _array(data, max_pixels)
    with _opened(data, max_pixels if crop is None else MOST_PIXELS) as (image, rule):
        if crop is not None:
            image = _cropped(image, crop, max_pixels)
        return colour.shown(image, (LOW, HIGH)) if isinstance(image, np.ndarray) else _rgb(image, rule)


def grey(data: bytes, max_pixels: int) -> Array:
    """(H, W) float32 of an image in its own depth, bands averaged, upright; NaN where it shows nothing.

    Nothing is shown where it is transparent, or by what the file declares as no data. Raises BadImage as
    `pixels` does.
    """
    with _opened(data, max_pixels) as (image, rule):
        if isinstance(image, np.ndarray):
            return colour.mean(image)
        values = np.empty((image.height, image.width), np.float32)
        if rule is not None:
            rule = _sure(image, rule)
            for top, part in _strips(image):
                values[top : top + len(part)] = np.where(rule.missing(part), np.nan, part)
        elif image.has_transparency_data:
            shown = np.asarray(image.convert("RGBA"))
            shown[:, :, :3].mean(axis=2, dtype=np.float32, out=values)
            values[shown[:, :, 3] == 0] = np.nan
        else:
            np.asarray(image.convert("RGB")).mean(axis=2, dtype=np.float32, out=values)
        return values


@contextmanager
def _opened(data: bytes, max_pixels: int) -> Iterator[tuple[Image.Image | Array, Rule | None]]:
    """The decoded image, upright, and the rule of its samples where they have more than 8 bits.

    Colour of 16 bits is an (H, W, 4) array in place of an image.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise BadImage(f"the reader gave {type(data).__name__}, not bytes or an array")
    content = bytes(data)
    if not content:
        raise BadImage("empty file")
    name, opener = format_of(content)
    try:
        with opener(io.BytesIO(content)) as image:
            _check(image.height, image.width, max_pixels)
            rule = _rule(image)
            with opener(io.BytesIO(content)) as again:
                deep = colour.samples(image, again, _declared(image))
            if deep is not None:
                yield turned(deep, tag_of(image)), None
                return
            image.load()
            yield upright(image, tag_of(image)), rule
    except (BadImage, MemoryError):
        raise
    except Image.DecompressionBombError as error:  # TIFF checks each tile by Pillow's own limit, 179 Mpixel
        raise BadImage("more pixels in one tile than Pillow decodes") from error
    except Exception as error:  # the bytes are in memory: whatever a decoder raises, it is about them
        form = unread(content) if name == "TIFF" and isinstance(error, SyntaxError) else None
        raise BadImage(form or f"truncated or corrupt {name}") from error


def _window(crop: Crop, width: int, height: int) -> tuple[slice, slice]:
    """Rows and columns. Raises BadImage for a window that is not all inside."""
    x, y, wide, high = crop
    if x < 0 or y < 0 or wide < 1 or high < 1 or x + wide > width or y + high > height:
        told = ",".join(map(str, crop))
        raise BadImage(f"crop {told} is not inside its {width} × {height} pixels; write x,y,width,height")
    return slice(y, y + high), slice(x, x + wide)


def _cropped(image: Image.Image | Array, crop: Crop, max_pixels: int) -> Image.Image | Array:
    if isinstance(image, np.ndarray):
        found: Array = image[_window(crop, image.shape[1], image.shape[0])]
        _check(found.shape[0], found.shape[1], max_pixels)
        return found
    rows, columns = _window(crop, image.width, image.height)
    _check(rows.stop - rows.start, columns.stop - columns.start, max_pixels)
    return image.crop((columns.start, rows.start, columns.stop, rows.stop))


def _array(array: Array, max_pixels: int) -> Array:
    if array.dtype != np.uint8:
        raise BadImage(f"array of {array.dtype}, not uint8")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise BadImage(f"array of shape {array.shape}, not (H, W) or (H, W, 3)")
    _check(array.shape[0], array.shape[1], max_pixels)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return np.require(array, requirements=("C", "W"))


def _check(height: int, width: int, max_pixels: int) -> None:
    if height * width > max_pixels:
        raise BadImage(f"{width} × {height} pixels, more than max_pixels = {max_pixels}")
    if min(height, width) < SMALLEST:
        raise BadImage(f"{width} × {height} pixels, less than {SMALLEST} × {SMALLEST}")


def _deep(image: Image.Image) -> bool:
    """Whether samples have 16 or 32 bits."""
    return image.mode.startswith(("I", "F"))


def _rule(image: Image.Image) -> Rule | None:
    """Of a deep image, by the TIFF tag that GDAL writes; None for 8 bits."""
    if not _deep(image):
        return None
    kind = {"I": "int32", "F": "float32"}.get(image.mode, "uint16")
    sane = kind != "uint16"  # a camera's 65535 is white, not missing
    return measured(kind, (_declared(image),), sane=sane)


def _declared(image: Image.Image) -> float | None:
    text = getattr(image, "tag_v2", {}).get(_NODATA)
    try:
        return None if text is None else float(str(text).strip(" \0"))
    except ValueError:  # not a number: nothing is declared
        return None


def _rgb(image: Image.Image, rule: Rule | None) -> Array:
    if rule is not None:
        return _stretched(image, rule)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    image = image if image.mode == "RGB" else image.convert("RGB")
    return np.array(image)  # a copy: what Pillow lends is read-only, and torch warns of that


def _strips(image: Image.Image) -> Iterator[tuple[int, Array]]:
    """The first row and the samples of some rows at a time, in the machine's byte order."""
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        part = np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))
        yield top, part.astype(part.dtype.newbyteorder("="), copy=False)


def _sure(image: Image.Image, rule: Rule) -> Rule:
    """The rule with the sentinels that this image holds, declared or not."""
    return rule.also(rule.undeclared((part, rule.missing(part)) for _, part in _strips(image)))


def _stretched(image: Image.Image, rule: Rule) -> Array:
    """(H, W, 3) uint8. The full range of 16 bits would leave a 12-bit camera nearly black."""
    rule = _sure(image, rule)

    def known() -> Iterator[Array]:
        for _, part in _strips(image):
            if not rule.nan and not np.isfinite(part).all():
                raise BadImage("samples that are NaN or infinite")
            yield part[~rule.missing(part)]

    found = percentiles(known, (LOW, HIGH))
    if not found:
        raise BadImage("no data: not one of its samples is a measurement")
    low, high = found
    scale = 255.0 / (high - low) if high > low else 0.0

    def levels(part: Array) -> Array:
        spread = np.clip((part.astype(np.float64) - low) * scale + 0.5, 0, 255)
        spread[rule.missing(part)] = 0
        return spread.astype(np.uint8)

    table = levels(np.arange(1 << 16, dtype=np.uint16)) if rule.dtype == "uint16" else None
    shown = np.empty((image.height, image.width, 3), np.uint8)
    for top, part in _strips(image):
        shown[top : top + len(part)] = (levels(part) if table is None else table[part])[:, :, None]
    return shown
