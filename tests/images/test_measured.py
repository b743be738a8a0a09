"""One rule says what is a measurement; what is genuine stays."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from crater_ray.errors import BadImage
from crater_ray.images import grey, measured, pixels

RNG = np.random.default_rng(5)
LIMIT = 64_000_000


def special(bits: int) -> float:
    return float(np.array([bits], np.uint32).view(np.float32)[0])


def marked(
    dtype: str, values: np.ndarray, declared: tuple[float | None, ...] = (), **more: bool
) -> np.ndarray:
    """Where a rule and its sentinels see no measurement."""
    rule = measured(dtype, declared, **more)
    rule = rule.also(rule.undeclared([(values, rule.missing(values))]))
    return rule.missing(values)


@pytest.mark.parametrize(
    ("dtype", "declared", "value"),
    [
        *(("float32", None, special(bits)) for bits in range(0xFF7FFFFB, 0xFF800000)),  # ISIS
        ("float32", -3.4028226550889045e38, special(0xFF7FFFFF)),
        ("float32", -3.40282e38, special(0xFF7FFFFB)),  # declared as text
        ("float32", -9.9999e31, -1e32),
        ("float32", None, 1e32),
        ("float32", None, np.nan),
        ("float32", None, -np.inf),
        ("float64", None, -1.7976931348623155e308),
        ("float32", 0.1, float(np.float32(0.1))),
        ("float64", -9999.9, float(np.float32(-9999.9))),
        ("float32", None, -9999.0),
        ("float32", None, -32768.0),
        ("float32", 0.0, 0.0),
        ("int16", None, -32768),
        ("int16", None, -9999),
        ("int16", None, 32767),
        ("int16", -32768.0, -32764),  # ISIS's HRS in an exported GeoTIFF
        ("int32", None, -2147483648),
        ("uint16", None, 65535),
        ("uint8", 255.0, 255),
    ],
)
def test_what_is_no_measurement_is_missing(dtype: str, declared: float | None, value: float) -> None:
    values = RNG.integers(40, 200, 500).astype(dtype)
    at = RNG.random(500) < 0.1
    values[at] = value
    np.testing.assert_array_equal(marked(dtype, values, (declared,)), at)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "uint32"])
def test_special_pixels_of_a_cube(dtype: str) -> None:
    ends = {
        "uint8": [0, 255],
        "int16": [-32768, -32767, -32766, -32765, -32764],
        "uint16": [0, 1, 2, 65534, 65535],
        "uint32": [0, 1, 2, 4294967294, 4294967295],
    }[dtype]
    values = np.array([*ends, 30, 100, 254], dtype)
    np.testing.assert_array_equal(marked(dtype, values, isis=True), [True] * len(ends) + [False] * 3)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("uint8", np.arange(256)),
        ("uint16", np.arange(0, 65536, 3)),  # a camera that saturates
        ("int16", np.arange(-32767, 32768, 11)),  # heights of any depth
        ("float32", np.linspace(-9999.0, 21000.0, 5000)),
        ("float32", np.linspace(-1, 1, 5000)),
        ("float64", 1737400 + np.linspace(-1, 1, 5000)),
        ("uint32", 4_000_000_000 + np.arange(5000)),
        ("float32", np.repeat([20.0, 60.0, 220.0], 50)),
        ("int16", np.repeat([0, 400, 4400], 50)),
    ],
)
def test_genuine_values_stay(dtype: str, values: np.ndarray) -> None:
    assert not marked(dtype, values.astype(dtype)).any()


def tiff(values: np.ndarray, nodata: str | None) -> bytes:
    file, tags = io.BytesIO(), ImageFileDirectory_v2()
    if nodata is not None:
        tags[42113] = nodata
        tags.tagtype[42113] = 2
    Image.fromarray(values).save(file, "TIFF", tiffinfo=tags)
    return file.getvalue()


@pytest.mark.parametrize(
    ("nodata", "value"),
    [(None, -3.4e38), ("-3.40282e+38", -3.4028226550889045e38), ("nan", np.nan), (None, -9999), ("0", 0)],
)
def test_no_data_of_an_image_is_black_and_out_of_the_stretch(nodata: str | None, value: float) -> None:
    ramp = np.linspace(100, 200, 64 * 64, dtype=np.float32).reshape(64, 64)
    holes = ramp.copy()
    holes[:, 5] = value
    out = pixels(tiff(holes, nodata), LIMIT)[:, :, 0]
    assert (out[:, 5] == 0).all()
    rest = np.delete(np.arange(64), 5)
    plain = pixels(tiff(ramp, None), LIMIT)[:, :, 0]
    assert np.abs(out[:, rest].astype(int) - plain[:, rest]).max() <= 2
    shown = grey(tiff(holes, nodata), LIMIT)
    np.testing.assert_array_equal(np.isnan(shown), np.broadcast_to(np.arange(64) == 5, (64, 64)))
    np.testing.assert_array_equal(shown[:, rest], ramp[:, rest])


def test_an_image_without_a_measurement_says_so() -> None:
    with pytest.raises(BadImage, match="no data"):
        pixels(tiff(np.full((16, 16), -9999, np.float32), "-9999"), LIMIT)
