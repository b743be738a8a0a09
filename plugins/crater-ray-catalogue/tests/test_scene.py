"""`match` reads an image as it looks, whatever it is stored as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import Affine

from crater_ray.errors import UserError
from crater_ray_catalogue.scene import read_scene, turn_of

Y, X = np.mgrid[:128, :160]
V = (128 + 60 * np.sin(X / 17) * np.cos(Y / 23) + 30 * np.sin((X + Y) / 9)).astype(np.uint8)
WIDE = V.astype(np.int32)
GREY = Image.fromarray(V)
RGB = Image.merge("RGB", [GREY] * 3)
DEEP = 1000 + V.astype(np.uint16) * 7


def turned_jpeg(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(V)).save(path, exif=exif, quality=95)


def tiff(path: Path, values: np.ndarray, **more: Any) -> None:
    bands = values if values.ndim == 3 else values[None]
    mask, colours = more.pop("mask", None), more.pop("colours", None)
    with rasterio.open(path, "w", driver="GTiff", count=len(bands), height=128, width=160, dtype=bands.dtype,
                       transform=Affine(2, 0, 5, 0, -2, 7), **more) as file:  # fmt: skip
        file.write(bands)
        if mask is not None:
            file.write_mask(mask)
        if colours is not None:
            file.write_colormap(1, colours)


HOLE = np.where(X < 20, 0, 255).astype(np.uint8)
FORMS: dict[str, Any] = {
    "grey.png": lambda path: GREY.save(path),
    "palette.png": lambda path: RGB.quantize(64).save(path),
    "palette.gif": lambda path: RGB.quantize(64).save(path),
    "palette.tif": lambda path: RGB.quantize(64).save(path),
    "rgba.png": lambda path: RGB.convert("RGBA").save(path),
    "la.png": lambda path: GREY.convert("LA").save(path),
    "deep.png": lambda path: Image.fromarray(DEEP).save(path),
    "deep.tif": lambda path: Image.fromarray(DEEP).save(path),
    "float.tif": lambda path: Image.fromarray(V / np.float32(255)).save(path),
    "cmyk.jpg": lambda path: RGB.convert("CMYK").save(path, quality=95),
    "cmyk.tif": lambda path: RGB.convert("CMYK").save(path),
    "ycbcr.jpg": lambda path: RGB.save(path, quality=95),
    "turned.jpg": turned_jpeg,
    "web.webp": lambda path: RGB.save(path, lossless=True),
    "raster.tif": lambda path: tiff(path, V),
    "five.tif": lambda path: tiff(path, np.stack([V] * 5)),
    "signed.tif": lambda path: tiff(path, V.astype(np.int16) - 500),
    "unsigned.tif": lambda path: tiff(path, V.astype(np.uint32) + 4_000_000_000),
    "colours.tif": lambda path: tiff(path, 255 - V, colours={i: (255 - i,) * 3 for i in range(256)}),
}
HOLES: dict[str, Any] = {
    "holes.png": lambda path: Image.fromarray(np.dstack([V, V, V, HOLE])).save(path),
    "mask.tif": lambda path: tiff(path, V, mask=HOLE),
    "nodata.tif": lambda path: tiff(path, np.where(HOLE, WIDE, -9999).astype(np.float32), nodata=-9999),
    "sentinel.tif": lambda path: tiff(path, np.where(HOLE, WIDE, -32768).astype(np.int16)),
    "lowest.tif": lambda path: tiff(path, np.where(HOLE, V, -3.4e38).astype(np.float32)),
    "nan.tif": lambda path: tiff(path, np.where(HOLE, V, np.nan).astype(np.float32)),
}


@pytest.mark.parametrize("name", FORMS)
def test_it_is_read_as_it_looks(tmp_path: Path, name: str) -> None:
    FORMS[name](tmp_path / name)
    grey = read_scene(tmp_path / name).grey
    assert grey.shape == V.shape
    assert np.corrcoef(grey.ravel(), V.ravel())[0, 1] > 0.99


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    for name in ("bits.png", "bits.tif"):
        Image.fromarray(V > 128).save(tmp_path / name)
        grey = read_scene(tmp_path / name).grey
        np.testing.assert_array_equal(grey > grey.mean(), V > 128)


@pytest.mark.parametrize("name", HOLES)
def test_what_it_does_not_show_is_not_there(tmp_path: Path, name: str) -> None:
    HOLES[name](tmp_path / name)
    grey = read_scene(tmp_path / name).grey
    np.testing.assert_array_equal(np.isnan(grey), HOLE == 0)
    assert np.corrcoef(grey[HOLE > 0], V[HOLE > 0])[0, 1] > 0.99


def test_a_turned_photograph_is_written_as_it_is_read(tmp_path: Path) -> None:
    turned_jpeg(tmp_path / "turned.jpg")
    assert turn_of(tmp_path / "turned.jpg") == 6
    tiff(tmp_path / "raster.tif", V)
    assert turn_of(tmp_path / "raster.tif") == 1


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_what_is_no_image_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read the image .*x\.png"):
        read_scene(tmp_path / "x.png")


def test_another_image_has_another_digest(tmp_path: Path) -> None:
    Image.fromarray(V).save(tmp_path / "a.png")
    Image.fromarray(V[::-1]).save(tmp_path / "b.png")  # of the same sum
    assert read_scene(tmp_path / "a.png").digest != read_scene(tmp_path / "b.png").digest
