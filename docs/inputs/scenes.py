"""Images for the consumer `match`, through its read_scene: pictures by Pillow, rasters by GDAL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from inputs.row import Row

Y, X = np.mgrid[:80, :96]
V = (128 + 60 * np.sin(X / 17) * np.cos(Y / 23) + 30 * np.sin((X + Y) / 9)).astype(np.uint8)
HOLE = X < 12
GREY = Image.fromarray(V)
RGB = Image.merge("RGB", [GREY] * 3)


def _read(path: Path, hole: bool = False) -> None:
    from crater_ray_catalogue.scene import read_scene

    grey = read_scene(path).grey
    shown = np.isfinite(grey)
    np.testing.assert_array_equal(shown, ~HOLE if hole else np.ones(V.shape, bool))
    assert np.corrcoef(grey[shown], V[shown])[0, 1] > 0.95


def _picture(image: Image.Image, name: str, hole: bool = False, **more: Any) -> Callable[[Path], None]:
    def attempt(folder: Path) -> None:
        image.save(folder / name, **more)
        _read(folder / name, hole)

    return attempt


def _raster(values: np.ndarray, hole: bool = False, **more: Any) -> Callable[[Path], None]:
    def attempt(folder: Path) -> None:
        import rasterio
        from rasterio.transform import Affine

        bands = values if values.ndim == 3 else values[None]
        how = {"driver": "GTiff", "transform": Affine(2, 0, 5, 0, -2, 7)} | more
        colours, mask = how.pop("colours", None), how.pop("mask", None)
        with rasterio.open(
            folder / "x.tif", "w", width=96, height=80, count=len(bands), dtype=bands.dtype, **how
        ) as file:
            file.write(bands)
            if colours:
                file.write_colormap(1, colours)
            if mask is not None:
                file.write_mask(mask)
        _read(folder / "x.tif", hole)

    return attempt


def _bytes(content: bytes) -> Callable[[Path], None]:
    def attempt(folder: Path) -> None:
        (folder / "x.png").write_bytes(content)
        _read(folder / "x.png")

    return attempt


def _bits(folder: Path) -> None:
    from crater_ray_catalogue.scene import read_scene

    Image.fromarray(V > 128).save(folder / "x.png")
    grey = read_scene(folder / "x.png").grey
    np.testing.assert_array_equal(grey > grey.mean(), V > 128)


def _turned() -> Callable[[Path], None]:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _picture(Image.fromarray(np.rot90(V)), "x.jpg", exif=exif, quality=95)


BACKWARDS = {index: (255 - index,) * 3 for index in range(256)}
CLEAR = np.dstack([V, V, V, np.where(HOLE, 0, 255).astype(np.uint8)])

ROWS = (
    Row(
        "8-bit grey or RGB, of any format above",
        "read: bands averaged",
        _picture(RGB, "x.webp", lossless=True),
    ),
    Row("palette PNG, GIF, TIFF", "read: in its colours", _picture(RGB.quantize(64), "x.png")),
    Row("1-bit PNG, TIFF", "read: black and white", _bits),
    Row(
        "16-bit or float picture",
        "read: in its own depth",
        _picture(Image.fromarray(1000 + V.astype(np.uint16) * 7), "x.tif"),
    ),
    Row("CMYK JPEG", "read", _picture(RGB.convert("CMYK"), "x.jpg", quality=95)),
    Row("a photograph turned by EXIF", "read: upright", _turned()),
    Row("transparent pixels", "read: nothing is there", _picture(Image.fromarray(CLEAR), "x.png", hole=True)),
    Row("GeoTIFF of any number type", "read", _raster(V.astype(np.uint32) + 4_000_000_000)),
    Row("GeoTIFF of five bands", "read: the first three averaged", _raster(np.stack([V] * 5))),
    Row("GeoTIFF with a colour table", "read: in its colours", _raster(255 - V, colours=BACKWARDS)),
    Row(
        "no data: declared, a mask, -32768, -3.4e38, NaN",
        "read: nothing is there",
        _raster(np.where(HOLE, -32768, V.astype(np.int16)).astype(np.int16), hole=True),
    ),
    Row(
        "fewer than 64 pixels a side",
        "x 40 pixels; give 64 or more a side",
        _picture(GREY.resize((90, 40)), "x.png"),
    ),
    Row("one grey", "shows one grey and nothing else", _picture(Image.new("L", (96, 80), 9), "x.png")),
    Row("empty, truncated or no image", "cannot read the image", _bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)),
)
