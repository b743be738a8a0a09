"""Samples of a dataset's window, NaN where there is no measurement, averaged over cells of any size.

GDAL's mask (no data, alpha, .msk) and `crater_ray.images.measured` say what is missing. Where the second
knows more than the first, cells are averaged here: GDAL would mix what it does not mask into its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import MaskFlags, Resampling
from rasterio.windows import Window

from crater_ray.errors import ReaderError
from crater_ray.images import Rule, measured
from crater_ray_mosaic.constants import constants

Array = NDArray[Any]
STRIP = 1 << 23  # samples that are averaged at once
WIDE = {"float64", "int32", "uint32", "int64", "uint64"}  # more digits than float32 has
_CUBES = {"ISIS3", "ISIS2"}


def rule_of(handle: Any, bands: Iterable[int]) -> Rule:
    """Which samples of these bands are measurements. Raises ReaderError for complex numbers."""
    first, *rest = (band - 1 for band in bands)
    kind = handle.dtypes[first]
    if "complex" in kind or any(handle.dtypes[one] != kind for one in rest):
        raise ReaderError(f"bands of {handle.name} are complex numbers or of several types; choose by bands")
    cube = handle.driver in _CUBES or (
        handle.driver == "VRT" and any(name.lower().endswith(".cub") for name in handle.files)
    )
    declared = [handle.nodatavals[one] for one in (first, *rest)]
    return measured(kind, (*declared, *constants(handle, kind)), isis=cube)


def samples(
    handle: Any,
    bands: list[int],
    window: Window,
    shape: tuple[int, int],
    rule: Rule,
    undeclared: set[float] | None = None,
) -> Array:
    """(B, h, w) float32, or float64 for types of more digits, NaN without a measurement.

    Each of the `shape` cells is the mean of its measurements. `undeclared` takes the sentinels that were
    found. Raises what rasterio raises.
    """
    kind = np.float64 if rule.dtype in WIDE else np.float32
    masked = _masked(handle, bands)

    def read(part: Window, size: tuple[int, int], how: Resampling) -> tuple[Array, Array]:
        full = (len(bands), *size)
        values = handle.read(bands, window=part, out_shape=full, resampling=how, out_dtype=kind)
        missing = rule.missing(values)
        if masked:
            missing |= handle.read_masks(bands, window=part, out_shape=full, resampling=how) == 0
        return values, missing

    native = shape == (window.height, window.width)
    if not native and rule.plain:
        return _without(*read(window, shape, Resampling.average))
    values, missing = read(window, shape, Resampling.nearest)
    found = rule.undeclared([(values, missing)])
    if undeclared is not None:
        undeclared.update(found)
    rule = rule.also(found)
    if native:
        return _without(values, rule.missing(values) | missing)
    if not found and not _more_than_gdal(handle, bands, window, missing):
        return _without(*read(window, shape, Resampling.average))
    return _averaged(read, window, shape, rule)


def _masked(handle: Any, bands: list[int]) -> bool:
    """Whether GDAL masks by more than one value: alpha, a mask band, a format's own."""
    plain = {MaskFlags.all_valid, MaskFlags.nodata}
    flags = [set(handle.mask_flag_enums[band - 1]) for band in bands]
    return any(not one or one - plain for one in flags)


def _more_than_gdal(handle: Any, bands: list[int], window: Window, missing: Array) -> bool:
    """Whether GDAL takes some of what is missing for measurements."""
    if not missing.any():
        return False
    known = handle.read_masks(bands, window=window, out_shape=missing.shape, resampling=Resampling.nearest)
    return bool((missing & (known != 0)).any())


def _without(values: Array, missing: Array) -> Array:
    values[missing] = np.nan
    return values


def _averaged(
    read: Callable[[Window, tuple[int, int], Resampling], tuple[Array, Array]],
    window: Window,
    shape: tuple[int, int],
    rule: Rule,
) -> Array:
    """The mean of each cell's measurements, weighted by area, from samples as stored, some rows at a time."""
    high, wide = shape
    rows, columns = np.linspace(0, window.height, high + 1), np.linspace(0, window.width, wide + 1)
    each = max(1, int(STRIP / window.width / (window.height / high)))  # rows of cells at once
    strips = []
    for first in range(0, high, each):
        edges = rows[first : min(first + each, high) + 1]
        top, bottom = math.floor(edges[0]), min(math.ceil(edges[-1]), window.height)
        part = Window(window.col_off, window.row_off + top, window.width, bottom - top)
        values, missing = read(part, (bottom - top, window.width), Resampling.nearest)
        missing |= rule.missing(values)
        base = values[~missing][0] if not missing.all() else 0.0  # so that sums keep their digits
        known = np.where(missing, 0.0, values.astype(np.float64) - base)
        sums = _cells(_cells(known, edges - top, 1), columns, 2)
        weights = _cells(_cells((~missing).astype(np.float64), edges - top, 1), columns, 2)
        mean = np.divide(sums, weights, out=np.full_like(sums, np.nan), where=weights > 1e-9) + base
        strips.append(mean.astype(values.dtype))
    return np.concatenate(strips, axis=1)


def _cells(values: Array, edges: Array, axis: int) -> Array:
    """Sums between fractional edges along an axis."""
    upto = np.cumsum(values, axis=axis)
    upto = np.concatenate([np.zeros_like(upto.take([0], axis)), upto], axis=axis)
    whole = np.minimum(np.floor(edges).astype(np.int64), values.shape[axis] - 1)
    part = (edges - whole).reshape([-1 if one == axis else 1 for one in range(values.ndim)])
    at = upto.take(whole, axis) + part * (upto.take(whole + 1, axis) - upto.take(whole, axis))
    return np.diff(at, axis=axis)
