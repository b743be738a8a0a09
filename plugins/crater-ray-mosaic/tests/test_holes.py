"""Single samples without a measurement make small holes, in greys, in coarse views and in slopes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crater_ray_mosaic.interpolation import ENOUGH, bilinear
from crater_ray_mosaic.pose import Pose
from crater_ray_mosaic.raster import Raster
from crater_ray_mosaic.rendering import Rendering
from crater_ray_mosaic.shade import rising, steepness
from crater_ray_mosaic.view import render

Paint = Callable[..., Path]
RNG = np.random.default_rng(3)


def slowly(band: np.ndarray, row: float, column: float) -> float:
    """By the definition: the weighted mean of the neighbours that are there, if they weigh enough."""
    if not (np.isfinite(row) and np.isfinite(column)):
        return np.nan
    top, left = min(int(row), band.shape[0] - 2), min(int(column), band.shape[1] - 2)
    total = mean = 0.0
    for y in (top, top + 1):
        for x in (left, left + 1):
            weight = (1 - abs(row - y)) * (1 - abs(column - x))
            if weight > 0 and np.isfinite(band[y, x]):
                total, mean = total + weight, mean + weight * float(band[y, x])
    return mean / total if total >= ENOUGH else np.nan


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("share", [0.0, 0.03, 0.4, 1.0])
def test_bilinear_is_the_weighted_mean_of_what_is_there(dtype: Any, share: float) -> None:
    offset = 0.0 if dtype is np.float32 else 4e9
    block = (RNG.random((2, 30, 40)) * 200 + offset).astype(dtype)
    block[RNG.random(block.shape) < share] = np.nan
    rows, columns = RNG.random((25, 25)) * 29, RNG.random((25, 25)) * 39
    rows[0], columns[1, :5] = np.round(rows[0]), np.nan
    columns[0] = np.round(columns[0])  # on a sample: its neighbours do not count
    found = bilinear(block, rows, columns)
    for band in range(2):
        wanted = np.vectorize(lambda row, column, one=block[band]: slowly(one, row, column))(rows, columns)
        np.testing.assert_allclose(found[..., band], wanted, rtol=1e-5 if dtype is np.float32 else 1e-14)
    if share == 0.0:
        assert np.isfinite(found[np.isfinite(columns)]).all()


def test_what_lies_between_samples_that_are_there_is_the_same_beside_holes() -> None:
    block = RNG.random((1, 50, 50)).astype(np.float32)
    holed = np.where(RNG.random(block.shape) < 0.03, np.float32(np.nan), block)
    rows, columns = RNG.random((80, 80)) * 49, RNG.random((80, 80)) * 49
    whole, found = bilinear(block, rows, columns), bilinear(holed, rows, columns)
    top, left = rows.astype(int), columns.astype(int)
    beside = np.isnan([holed[0, top + y, left + x] for y in (0, 1) for x in (0, 1)]).any(axis=0)
    assert (found == whole)[~beside].all()
    assert np.isnan(found).mean() < 0.03 < beside.mean()


def crater(lat: Any, lon: Any) -> Any:
    return np.where(np.hypot(lat, lon) < 2, 40, np.where(np.hypot(lat, lon) < 2.6, 240, 120)) + 0 * lat * lon


@pytest.mark.parametrize("half_width", [110, 300, 500])  # finer than the raster, as fine, and averaged
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_scattered_holes_leave_the_view_s_contrast(paint: Paint, half_width: float, dtype: str) -> None:
    where: tuple[Any, ...] = (-20, 20, 1 / 12, 480, 480)
    holes = RNG.random((480, 480)) < 0.05
    whole = paint("w.tif", crater, *where, dtype=dtype)

    def holed(lat: Any, lon: Any) -> Any:
        return np.where(holes, 7, crater(lat, lon))

    path = paint("h.tif", holed, *where, dtype=dtype, nodata=7)
    how = Rendering(stretch="always")
    one, other = (render(Raster(p), Pose(0, 0, half_width), how).astype(float) for p in (whole, path))
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.95
    assert (np.abs(one - other) < 8).mean() > 0.85


def test_a_slope_beside_a_hole_is_taken_to_the_other_side() -> None:
    height = (0.3 * np.arange(12.0)[None] - 0.4 * np.arange(12.0)[:, None]).astype(np.float32)
    height[5, 6] = height[0, 3] = height[9, 9] = height[9, 11] = np.nan
    right, up = rising(height, 1.0)
    missing = np.isnan(right) | np.isnan(up)
    np.testing.assert_allclose(right[~np.isnan(right)], 0.3, atol=1e-5)
    np.testing.assert_allclose(up[~np.isnan(up)], 0.4, atol=1e-5)
    assert np.argwhere(missing).tolist() == [[8, 9]]  # between two holes; a hole alone has both neighbours
    assert (np.isnan(steepness(height, 1.0)) == missing).all()


@pytest.mark.parametrize("half_width", [110, 300, 500])
def test_holes_of_a_dem_make_no_spikes(paint: Paint, half_width: float) -> None:
    where: tuple[Any, ...] = (-20, 20, 1 / 12, 480, 480)
    holes = RNG.random((480, 480)) < 0.03

    def hills(lat: Any, lon: Any) -> Any:
        return 3000 * np.sin(np.radians(40 * lat)) * np.sin(np.radians(40 * lon))

    whole = paint("w.tif", hills, *where)
    holed = paint("h.tif", lambda lat, lon: np.where(holes, -32768, hills(lat, lon)), *where, nodata=-32768)
    for how in (Rendering("dem"), Rendering("slope")):
        one, other = (render(Raster(p), Pose(0, 0, half_width), how).astype(float) for p in (whole, holed))
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.9
        assert np.median(np.abs(one - other)) < 3
