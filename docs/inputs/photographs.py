"""Photographs as COLMAP gets them, and names in pair lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from inputs.row import Row

RGB = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 40, 3), np.uint8))
DEEP = Image.fromarray(np.random.default_rng(0).integers(0, 4096, (32, 40), np.uint16))
FLOAT = Image.fromarray(np.random.default_rng(0).random((32, 40), np.float32))


def _file(image: Image.Image, name: str, wanted: str, converted: bool, **more: Any) -> Callable[[Path], None]:
    def attempt(folder: Path) -> None:
        from crater_ray_colmap.pictures import found

        image.save(folder / name, **more)
        (picture,) = found(["an id"], [name], folder)
        assert (picture.name, picture.converted) == (wanted, converted)

    return attempt


def _as_it_is(image: Image.Image, name: str, **more: Any) -> Callable[[Path], None]:
    return _file(image, name, name, False, **more)


def _converted(image: Image.Image, name: str, **more: Any) -> Callable[[Path], None]:
    return _file(image, name, f"{name}.png", True, **more)


def _several(ids: Sequence[str], uris: Sequence[str], *there: str) -> Callable[[Path], None]:
    def attempt(folder: Path) -> None:
        from crater_ray_colmap.pictures import found

        for name in there:
            RGB.save(folder / name)
        found(ids, uris, folder)

    return attempt


def _two_sizes(folder: Path) -> None:
    from crater_ray_colmap.pictures import found, groups

    RGB.save(folder / "a.jpg")
    RGB.rotate(90, expand=True).save(folder / "b.jpg")
    groups(found(["a", "b"], ["a.jpg", "b.jpg"], folder), "one")


def _pairs(wanted: str, *rows: tuple[str, str], top: int = 1) -> Callable[[Path], None]:
    """The pair list of a neighbour table of one neighbour an image."""

    def attempt(folder: Path) -> None:
        import pyarrow as pa
        import pyarrow.dataset as ds

        from crater_ray.builtin.pairs import Pairs
        from crater_ray.plugins import Index

        one, other = zip(*rows, strict=True)
        table = pa.table({"query_id": one, "id": other, "rank": pa.array([1] * len(rows), pa.int32())})
        path = Pairs(top)(cast("Index", range(9)), ds.dataset(table), folder)
        assert path.read_text(encoding="utf-8") == wanted

    return attempt


ROWS = (
    *(
        Row(f"`colmap`, {form}", "read: as it is", _as_it_is(image, name, **more))
        for form, image, name, more in (
            ("JPEG", RGB, "a.jpg", {}),
            ("MPO", RGB, "a.jpg", {"format": "MPO"}),
            ("8-bit PNG, palette, 1-bit", RGB.quantize(16), "a.png", {}),
            ("8-bit TIFF, CMYK", RGB.convert("CMYK"), "a.tif", {}),
            ("BMP", RGB, "a.bmp", {}),
            ("PGM, PPM", RGB.convert("L"), "a.pgm", {}),
        )
    ),
    *(
        Row(f"`colmap`, {form}", "read: converted to PNG", _converted(image, name, **more))
        for form, image, name, more in (
            ("WebP, also named .jpg", RGB, "a.jpg", {"format": "WebP"}),
            ("GIF", RGB, "a.gif", {}),
            ("JPEG 2000", RGB, "a.jp2", {}),
            ("AVIF; HEIC (with crater-ray[heif])", RGB, "a.avif", {}),
            ("16-bit PNG, TIFF", DEEP, "a.png", {}),
            ("float TIFF", FLOAT, "a.tif", {}),
        )
    ),
    Row(
        "`colmap`, names with white space", "read: as in a URL", _file(RGB, "IMG 1.jpg", "IMG%201.jpg", False)
    ),
    Row(
        "`colmap`, U+00A0, U+2028, U+3000 in a name",
        "read: as in a URL",
        _file(RGB, "a\u2028.jpg", "a%E2%80%A8.jpg", False),
    ),
    Row("`colmap`, names that begin with `#`", "read: as in a URL", _file(RGB, "#1.jpg", "%231.jpg", False)),
    Row(
        "`colmap`, one file under two ids",
        "ids 'a' and 'b' are both the file '0.jpg', and COLMAP takes a file once",
        _several(["a", "b"], ["0.jpg", "0.jpg"], "0.jpg"),
    ),
    Row(
        "`colmap`, an image that is gone",
        "1 of 2 images are not below",
        _several("ab", ["0.jpg", "1.jpg"], "0.jpg"),
    ),
    Row("`colmap`, a path out of `images`", "is no path below a folder", _several(["a"], ["../a.jpg"])),
    Row('`colmap`, two sizes and `cameras = "one"`', 'set cameras = "size" for a camera a size', _two_sizes),
    Row("`pairs`, plain ids", "read", _pairs("a.jpg b.jpg\n", ("b.jpg", "a.jpg"), ("a.jpg", "b.jpg"))),
    Row("`pairs`, one id that begins with `#`", "read: written second", _pairs("b #a\n", ("#a", "b"))),
    Row(
        "`pairs`, two ids that begin with `#`",
        "both begin with '#', so that COLMAP takes",
        _pairs("", ("#a", "#b")),
    ),
    *(
        Row(
            f"`pairs`, {form} in an id",
            "has white space, where COLMAP and hloc split a pair",
            _pairs("", (id, "b")),
        )
        for form, id in (
            ("a blank or a tab", "a 1"),
            ("U+00A0, U+202F, U+3000", "a\u3000"),
            ("U+2028", "a\u20281"),
        )
    ),
    Row(
        "`pairs`, `top` above the table's",
        "has 1 an image; set [neighbours] top = 5",
        _pairs("", ("a", "b"), top=5),
    ),
)
