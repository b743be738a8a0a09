"""What is no measurement is missing, in views as fine as the raster and in coarser ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from crater_ray.errors import BadImage
from crater_ray_mosaic.constants import constants
from crater_ray_mosaic.pose import Pose
from crater_ray_mosaic.raster import Raster
from crater_ray_mosaic.rendering import Rendering
from crater_ray_mosaic.samples import rule_of, samples
from crater_ray_mosaic.view import render

Paint = Callable[..., Path]
RNG = np.random.default_rng(11)
SIDE = 240
EQC = "+proj=eqc +R=1737400 +units=m"
PDS3 = "PDS_VERSION_ID = PDS3\r\n NULL = 16#FF7FFFFB#\r\n HIGH_REPR_SATURATION = -32765\r\nEND\r\nNULL = 5"
PDS4 = (
    "<pds:Special_Constants><pds:missing_constant>-1</pds:missing_constant>"
    "<pds:high_instrument_saturation>254</pds:high_instrument_saturation>"
    "<pds:valid_maximum>250</pds:valid_maximum></pds:Special_Constants>"
)
METRES = np.radians(1) * 1737400


def special(bits: int) -> float:
    return float(np.array([bits], np.uint32).view(np.float32)[0])


def cells(path: Path, shape: tuple[int, int]) -> np.ndarray:
    with rasterio.open(path) as file:
        return samples(file, [1], Window(0, 0, SIDE, SIDE), shape, rule_of(file, [1]))[0]


def means(values: np.ndarray, missing: np.ndarray, each: int) -> np.ndarray:
    """Of blocks of each x each, NaN where nothing is known."""
    blocks = np.where(missing, np.nan, values).reshape(SIDE // each, each, SIDE // each, each)
    known = np.isfinite(blocks).any(axis=(1, 3))
    blocks = np.where(np.isfinite(blocks).any(axis=(1, 3), keepdims=True), blocks, 0.0)
    return np.where(known, np.nanmean(blocks, axis=(1, 3)), np.nan)


def rounding(dtype: str) -> float:
    """GDAL's own average of integers is an integer."""
    return 0.0 if dtype.startswith("float") else 0.51


@pytest.mark.parametrize(
    ("driver", "dtype", "nodata", "value"),
    [
        *(("ISIS3", "float32", None, special(bits)) for bits in range(0xFF7FFFFB, 0xFF800000)),
        *(("ISIS3", "int16", None, value) for value in range(-32768, -32763)),
        *(("ISIS3", "uint8", None, value) for value in (0, 255)),
        ("GTiff", "float32", -3.40282e38, special(0xFF7FFFFF)),
        ("GTiff", "float32", -9.9999e31, -1e32),
        ("GTiff", "float32", None, -3.4e38),
        ("GTiff", "float32", None, -9999),
        ("GTiff", "float32", None, np.nan),
        ("GTiff", "float32", None, np.inf),
        ("GTiff", "float64", None, -1.7e308),
        ("GTiff", "int16", None, -32768),
        ("GTiff", "int16", -32768, -32765),
        ("GTiff", "int16", None, -9999),
        ("GTiff", "uint16", None, 65535),
        ("GTiff", "uint16", 0, 0),
        ("GTiff", "int32", None, -(1 << 31)),
    ],
)
@pytest.mark.parametrize("each", [1, 4, 12])
def test_missing_as_stored_and_averaged(
    paint: Paint, driver: str, dtype: str, nodata: float | None, value: float, each: int
) -> None:
    values = RNG.integers(60, 190, (SIDE, SIDE)).astype(dtype)
    missing = RNG.random((SIDE, SIDE)) < 0.05
    missing[:60, :60] = True
    values[missing] = value
    more: dict[str, Any] = {"nodata": nodata} if driver == "GTiff" else {}
    path = paint("x.cub" if driver == "ISIS3" else "x.tif", values, -10, 10, 1 / 12, SIDE, SIDE, dtype=dtype,
                 crs=EQC, metres=METRES, driver=driver, **more)  # fmt: skip
    found = cells(path, (SIDE // each, SIDE // each))
    np.testing.assert_allclose(
        found, means(values.astype(float), missing, each), rtol=1e-5, atol=rounding(dtype)
    )


@pytest.mark.parametrize("kind", ["alpha", "internal mask", "values"])
def test_masks_of_a_file(paint: Paint, kind: str) -> None:
    values = RNG.integers(60, 190, (SIDE, SIDE)).astype(np.uint8)
    missing = np.zeros((SIDE, SIDE), bool)
    missing[:, 120:] = True
    mask = np.where(missing, 0, 255).astype(np.uint8)
    where: tuple[Any, ...] = (-10, 10, 1 / 12, SIDE, SIDE)
    if kind == "alpha":
        path = paint("x.tif", np.stack([values, mask]), *where, dtype="uint8", alpha="YES")
    elif kind == "internal mask":
        path = paint("x.tif", values, *where, dtype="uint8")
        with rasterio.open(path, "r+") as file:
            file.write_mask(mask)
    else:
        values[missing] = 7
        path = paint("x.tif", np.stack([values] * 3), *where, dtype="uint8", photometric="RGB")
        with rasterio.open(path, "r+") as file:
            file.update_tags(NODATA_VALUES="7 7 7")
    for each in (1, 4):
        np.testing.assert_allclose(
            cells(path, (SIDE // each, SIDE // each)), means(values, missing, each), rtol=1e-5, atol=0.51
        )


def test_8_bits_and_real_extremes_are_measurements(paint: Paint) -> None:
    grey = np.tile(np.arange(SIDE, dtype=np.uint8), (SIDE, 1))
    grey[:, 0], grey[:, -1] = 0, 255
    path = paint("g.tif", grey, step=0.1, width=SIDE, height=SIDE, dtype="uint8")
    np.testing.assert_array_equal(cells(path, (SIDE, SIDE)), grey)
    heights = np.linspace(-9999, 21000, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
    np.testing.assert_array_equal(
        cells(paint("h.tif", heights, step=0.1, width=SIDE, height=SIDE), (SIDE, SIDE)), heights
    )


@pytest.mark.parametrize(
    ("dtype", "offset", "spread"),
    [
        ("uint32", 4_000_000_000, 255),
        ("int32", -2_000_000_000, 100),
        ("uint64", 1 << 40, 300),
        ("int64", -(1 << 45), 1000),
        ("float64", 1737400.0, 1.0),
        ("float64", -1e9, 0.01),
    ],
)
@pytest.mark.parametrize("half_width", [100, 290])
def test_large_offsets_keep_their_digits(
    paint: Paint, dtype: str, offset: float, spread: float, half_width: float
) -> None:
    def hills(lat: Any, lon: Any) -> Any:
        return (np.sin(np.radians(30 * lat)) * np.cos(np.radians(25 * lon)) + 1) / 2

    where: tuple[Any, ...] = (-10, 10, 1 / 12, SIDE, SIDE)
    small = render(
        Raster(paint("s.tif", lambda a, b: hills(a, b) * 255, *where)), Pose(0, 0, half_width), Rendering()
    )

    def deep(lat: Any, lon: Any) -> Any:
        return offset + (hills(lat, lon) * spread).astype(dtype if dtype[0] != "u" else "int64")

    path = paint("l.tif", deep, *where, dtype=dtype)
    large = render(Raster(path), Pose(0, 0, half_width), Rendering())
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.995


def test_a_refused_view_says_which_values_are_no_measurement(paint: Paint) -> None:
    values = RNG.integers(60, 190, (SIDE, SIDE)).astype(np.int16)
    values[:, :150] = -9999
    raster = Raster(paint("x.tif", values, -10, 10, 1 / 12, SIDE, SIDE, dtype="int16"))
    with pytest.raises(
        BadImage, match=r"no data: \d+% .*no measurement: below -32767, -9999 \(not declared\)"
    ):
        render(raster, Pose(0, 0, 200), Rendering())


@pytest.mark.parametrize(
    ("driver", "label", "kind", "found"),
    [
        ("PDS", PDS3, "int16", [-32765.0]),
        ("PDS", 'PDS_VERSION_ID = PDS3\nMISSING_CONSTANT = 16#8000#\nNULL = "N/A"\nEND', "int16", [-32768.0]),
        ("PDS4", PDS4, "uint8", [-1.0, 254.0]),
        ("GTiff", "PDS_VERSION_ID = PDS3\nNULL = 3\nEND\n", "int16", []),
    ],
)  # fmt: skip
def test_constants_of_a_label(tmp_path: Path, driver: str, label: str, kind: str, found: list[float]) -> None:
    path = tmp_path / "label"
    path.write_bytes(label.encode())
    assert constants(type("Handle", (), {"driver": driver, "files": [str(path)]}), kind) == found
