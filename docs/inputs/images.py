"""Encoded images, through crater_ray.images."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from inputs.row import Row

GREY = Image.fromarray(np.tile(np.arange(0, 240, 5, dtype=np.uint8), (40, 1)))
RGB = Image.merge("RGB", [GREY] * 3)
DEEP = np.asarray(GREY).astype(np.uint16) * 9 + 1000


def _read(data: bytes, most: int = 1_000_000) -> None:
    from crater_ray.images import pixels

    assert pixels(data, most).std() > 10


def _row(
    form: str, answer: str, image: Image.Image, format: str, most: int = 1_000_000, **options: Any
) -> Row:
    def attempt(folder: Path) -> None:
        file = io.BytesIO()
        image.save(file, format, **options)
        _read(file.getvalue(), most)

    return Row(form, answer, attempt)


def _holes(value: float) -> Image.Image:
    samples = np.asarray(GREY).astype(np.float32)
    samples[:, 3] = value
    return Image.fromarray(samples)


def _colour(folder: Path) -> None:
    import rasterio

    file = folder / "colour.tif"
    shape = {"width": DEEP.shape[1], "height": DEEP.shape[0], "count": 3, "dtype": "uint16"}
    place = {"crs": "EPSG:3857", "transform": rasterio.Affine(1, 0, 5, 0, -1, 5)}
    how = {"photometric": "RGB", "interleave": "band"}
    with rasterio.open(file, "w", driver="GTiff", **shape, **place, **how) as raster:
        raster.write(np.stack([DEEP] * 3))
    _read(file.read_bytes())


ROWS = (
    *(
        _row(f"8-bit {format}", "read", RGB, format)
        for format in ("JPEG", "PNG", "TIFF", "WebP", "GIF", "BMP", "PPM")
    ),
    _row("JPEG 2000", "read", RGB, "JPEG2000"),
    _row("palette PNG", "read: in its colours", RGB.quantize(32), "PNG"),
    _row("1-bit TIFF", "read", GREY.point(lambda v: 255 * (v > 100), "1"), "TIFF"),
    _row("RGBA PNG", "read: transparency over black", RGB.convert("RGBA"), "PNG"),
    _row("CMYK JPEG", "read", RGB.convert("CMYK"), "JPEG"),
    _row("16-bit PNG", "read: 1st to 99th percentile", Image.fromarray(DEEP), "PNG"),
    Row("16-bit RGB TIFF or PNG", "read: 1st to 99th percentile", _colour),
    _row("float TIFF", "read: 1st to 99th percentile", _holes(5), "TIFF"),
    _row("float TIFF with -9999 or -3.4e38", "read: no data is black", _holes(-3.4e38), "TIFF"),
    _row("float TIFF with undeclared NaN", "samples that are NaN or infinite", _holes(np.nan), "TIFF"),
    _row("more pixels than `max_pixels`", "more than max_pixels", RGB, "PNG", most=100),
    _row("fewer than 8 pixels a side", "less than 8 × 8", RGB.resize((20, 4)), "PNG"),
    Row("empty file", "empty file", lambda folder: _read(b"")),
    Row("PDF, EPS, SVG, text", "not an image of a known format", lambda folder: _read(b"%!PS-Adobe-3.0")),
    Row("truncated file", "truncated or corrupt PNG", lambda folder: _read(b"\x89PNG\r\n\x1a\n" + b"\0" * 9)),
)
