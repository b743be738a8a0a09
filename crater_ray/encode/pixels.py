"""The gate between what a reader gives and what a backbone sees: pixels, or a BadImage that says why not."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from crater_ray.errors import BadImage

SMALLEST = 8  # pixels a side: less than one patch of any ViT
LOW, HIGH = 1.0, 99.0  # percentiles that become 0 and 255 where samples have more than 8 bits

# Image.open is not used: it warns of big images by a limit of its own, once for the whole process, and opens
# formats that start other programs (EPS). The first bytes choose one of these instead.
_FORMATS: tuple[tuple[str, tuple[bytes, ...], type[ImageFile.ImageFile]], ...] = (
    ("JPEG", (b"\xff\xd8\xff",), JpegImagePlugin.JpegImageFile),
    ("PNG", (b"\x89PNG\r\n\x1a\n",), PngImagePlugin.PngImageFile),
    ("TIFF", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), TiffImagePlugin.TiffImageFile),
    ("WebP", (b"RIFF",), WebPImagePlugin.WebPImageFile),
    ("JPEG 2000", (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"), Jpeg2KImagePlugin.Jpeg2KImageFile),
    ("GIF", (b"GIF87a", b"GIF89a"), GifImagePlugin.GifImageFile),
    ("BMP", (b"BM",), BmpImagePlugin.BmpImageFile),
    ("PNM", (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf"), PpmImagePlugin.PpmImageFile),
)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112

# Pillow warns of odd metadata, no concern of pixels; catch_warnings is not safe among decode threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


def pixels(data: bytes | np.ndarray[Any, Any], max_pixels: int) -> np.ndarray[Any, Any]:
    """(H, W, 3) uint8, C-contiguous and writable, of an encoded image or an (H, W[, 1 or 3]) uint8 array.

    The first frame, turned upright by its EXIF tag, transparency over black (as nodata is). Samples of more
    than 8 bits are stretched from their 1st to their 99th percentile.
    Raises BadImage with a short reason, always the same for the same data; the pixel count is checked before
    anything is decoded.
    """
    if isinstance(data, np.ndarray):
        return _array(data, max_pixels)
    if not isinstance(data, bytes | bytearray | memoryview):
        raise BadImage(f"the reader gave {type(data).__name__}, not bytes or an array")
    content = bytes(data)
    if not content:
        raise BadImage("empty file")
    name, opener = _format(content)
    try:
        with opener(io.BytesIO(content)) as image:
            _check(image.height, image.width, max_pixels)
            image.load()
            return _rgb(_upright(image))
    except (BadImage, MemoryError):
        raise
    except Image.DecompressionBombError as error:  # TIFF checks each tile by Pillow's own limit, 179 Mpixel
        raise BadImage("more pixels in one tile than Pillow decodes") from error
    except Exception as error:  # the bytes are in memory: whatever a decoder raises, it is about them
        raise BadImage(f"truncated or corrupt {name}") from error


def _array(array: np.ndarray[Any, Any], max_pixels: int) -> np.ndarray[Any, Any]:
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


def _format(content: bytes) -> tuple[str, type[ImageFile.ImageFile]]:
    for name, starts, opener in _FORMATS:
        if content.startswith(starts) and (name != "WebP" or content[8:12] == b"WEBP"):
            return name, opener
    raise BadImage(f"not an image of a known format ({', '.join(name for name, _, _ in _FORMATS)})")


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a broken tag says nothing about the pixels, which are whole
        turn = None
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> np.ndarray[Any, Any]:
    if image.mode.startswith(("I", "F")):  # 16 and 32 bits
        return np.repeat(_stretched(np.asarray(image))[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    image = image if image.mode == "RGB" else image.convert("RGB")
    return np.array(image)  # a copy: what Pillow lends is read-only, and torch warns of that


def _stretched(samples: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """uint8. The full range of 16 bits would leave a 12-bit camera nearly black."""
    if not np.isfinite(samples).all():
        raise BadImage("samples that are NaN or infinite")
    low, high = np.percentile(samples, (LOW, HIGH))
    scale = 255.0 / (high - low) if high > low else 0.0
    stretched: np.ndarray[Any, Any] = np.clip((samples - low) * scale + 0.5, 0, 255).astype(np.uint8)
    return stretched
