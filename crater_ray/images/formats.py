"""Which decoder reads an encoded image, by its first bytes, and how it is turned upright."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import (
    AvifImagePlugin,
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

Opener = Callable[[io.BytesIO], ImageFile.ImageFile]

# Image.open is not used: it warns of big images by a limit of its own, once for the whole process, and opens
# formats that start other programs (EPS). The first bytes choose one of these instead.
_FORMATS: tuple[tuple[str, tuple[bytes, ...], Opener], ...] = (
    ("JPEG", (b"\xff\xd8\xff",), JpegImagePlugin.JpegImageFile),
    ("PNG", (b"\x89PNG\r\n\x1a\n",), PngImagePlugin.PngImageFile),
    ("TIFF", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), TiffImagePlugin.TiffImageFile),
    ("WebP", (b"RIFF",), WebPImagePlugin.WebPImageFile),
    ("JPEG 2000", (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"), Jpeg2KImagePlugin.Jpeg2KImageFile),
    ("GIF", (b"GIF87a", b"GIF89a"), GifImagePlugin.GifImageFile),
    ("BMP", (b"BM",), BmpImagePlugin.BmpImageFile),
    ("PNM", (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf"), PpmImagePlugin.PpmImageFile),
)
_AVIF, _HEIC = {b"avif", b"avis"}, {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
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
_KINDS = {1: "integer", 2: "signed integer", 3: "float", 4: "unknown", 5: "complex", 6: "complex"}

# Pillow warns of odd metadata, no concern of pixels; catch_warnings is not safe among decode threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


def format_of(content: bytes) -> tuple[str, Opener]:
    """The name and the decoder of an encoded image. Raises BadImage for a format that none reads."""
    if content[4:8] == b"ftyp":
        return _boxed(content)
    for name, starts, opener in _FORMATS:
        if content.startswith(starts) and (name != "WebP" or content[8:12] == b"WEBP"):
            return name, opener
    known = ", ".join([*(name for name, _, _ in _FORMATS), "AVIF", "HEIC"])
    raise BadImage(f"not an image of a known format ({known})")


def _boxed(content: bytes) -> tuple[str, Opener]:
    """AVIF or HEIC, by the brands of the first box; films and other things in boxes are neither."""
    length = min(int.from_bytes(content[:4], "big"), 256)
    brands = {content[start : start + 4] for start in range(8, length, 4)}
    if brands & _AVIF:
        return "AVIF", AvifImagePlugin.AvifImageFile
    if not brands & _HEIC:
        raise BadImage("a film or another file of boxes, not an image")
    try:
        from pillow_heif.as_plugin import HeifImageFile
    except ImportError:
        raise BadImage("HEIC, which needs pillow-heif: pip install 'crater-ray[heif]'") from None
    opener: Opener = HeifImageFile
    return "HEIC", opener


def unread(content: bytes) -> str | None:
    """What a TIFF holds that Pillow has no mode for, in words; None where its own directory is broken."""
    file = io.BytesIO(content)
    try:
        head = file.read(16 if b"+" in content[2:4] else 8)
        tags = TiffImagePlugin.ImageFileDirectory_v2(head)
        file.seek(tags.next)
        tags.load(file)
        method, bits = tags.get(TiffImagePlugin.COMPRESSION, 1), tags[TiffImagePlugin.BITSPERSAMPLE]
        kind = _KINDS[tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))[0]]
        samples = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
        tags[TiffImagePlugin.IMAGEWIDTH], tags[TiffImagePlugin.IMAGELENGTH]
    except Exception:  # whatever a broken directory raises
        return None
    packed = "" if method in TiffImagePlugin.COMPRESSION_INFO else f", compressed by method {method}"
    what = f"a TIFF of {samples} × {bits[0]}-bit {kind}{packed}"
    return f"{what}, which is not read; convert it to grey or RGB of 8 or 16 bits"


def known(content: bytes) -> str | None:
    """The name of the format, such as "PNG"; None for one that is not decoded here."""
    try:
        return format_of(content)[0]
    except BadImage:
        return None


def orientation(content: bytes) -> int:
    """The EXIF orientation of an encoded image: 1 (as stored) to 8. Raises BadImage for an unknown format."""
    _, opener = format_of(content)
    try:
        with opener(io.BytesIO(content)) as image:
            return tag_of(image)
    except Exception:  # a broken header says nothing of a turn; decoding says what is wrong
        return 1


def tag_of(image: Image.Image) -> int:
    """The EXIF orientation of an opened image, 1 where it has none."""
    try:
        turn = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken tag says nothing about the pixels, which are whole
        return 1
    return turn if turn in _TURNS else 1


def upright(image: Image.Image, turn: int) -> Image.Image:
    """The image turned as its orientation asks."""
    return image if turn == 1 else image.transpose(_TURNS[turn])


def turned(array: np.ndarray[Any, Any], turn: int) -> np.ndarray[Any, Any]:
    """(H, W[, C]) as stored -> upright, of an EXIF orientation of 1 to 8."""
    if turn >= 5:
        array = array.swapaxes(0, 1)
    rows, columns = turn in (3, 4, 7, 8), turn in (2, 3, 6, 7)
    return array[:: -1 if rows else 1, :: -1 if columns else 1]
