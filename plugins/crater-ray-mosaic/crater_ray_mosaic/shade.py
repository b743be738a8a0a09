"""Light and greys: a DEM under a sun, and values to uint8."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def lambert(height: Array, spacing: float, azimuth: float, elevation: float) -> Array:
    """The cosine between slope and sun, 0 in self-shadow; no cast shadows. NaN as `rising`.

    height (S + 2, S + 2) metres, spacing metres a pixel; azimuth degrees clockwise from the image's up,
    elevation degrees. -> (S, S)
    """
    right, up = rising(height, spacing)
    a, e = math.radians(azimuth), math.radians(elevation)
    facing = np.float32(math.sin(e)) - right * np.float32(math.sin(a) * math.cos(e))
    facing -= up * np.float32(math.cos(a) * math.cos(e))
    return np.maximum(facing / np.sqrt(1.0 + right * right + up * up), 0.0).astype(np.float32, copy=False)


def steepness(height: Array, spacing: float) -> Array:
    """The slope in degrees, whatever the sun: (S, S) of height (S + 2, S + 2) and spacing as in lambert."""
    return np.degrees(np.arctan(np.hypot(*rising(height, spacing)))).astype(np.float32, copy=False)


def rising(height: Array, spacing: float) -> tuple[Array, Array]:
    """Metres a metre to the right and up, by central differences: (S, S) each of (S + 2, S + 2) metres.

    Where one of the two neighbours is NaN, between the point and the other; NaN where there is neither.
    """
    rise, middle = np.float32(0.5 / spacing), height[1:-1, 1:-1]
    right = _rise(height[1:-1, 2:], middle, height[1:-1, :-2], rise)
    return right, _rise(height[:-2, 1:-1], middle, height[2:, 1:-1], rise)


def _rise(after: Array, middle: Array, before: Array, rise: np.float32) -> Array:
    central = (after - before) * rise
    if not (gaps := np.isnan(central)).any():
        return central
    one_sided = np.where(np.isnan(after), middle - before, after - middle) * (2 * rise)
    return np.where(gaps, one_sided, central)


def stretched(values: Array, low: float = 1.0, high: float = 99.0) -> tuple[Array, bool]:
    """Percentiles low..high of the finite values spread over 0..255, and whether there was any spread.

    Of any shape; bands share one stretch, so that colour stays. NaN stays NaN.
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return values, False
    bottom, top = np.percentile(finite, (low, high))
    steps = 8 * np.finfo(values.dtype).eps  # below that the spread is rounding
    if not top - bottom > steps * max(abs(bottom), abs(top), 1e-6):
        return np.zeros_like(values), False
    bottom, top = float(bottom), float(top)
    spread = np.clip((values - bottom) * (255.0 / (top - bottom)), 0.0, 255.0)
    return spread.astype(np.float32, copy=False), True


def greys(
    values: Array, invalid: NDArray[np.bool_], brightness: float = 0.0, contrast: float = 1.0
) -> NDArray[Any]:
    """uint8 of values 0..255; invalid pixels take the mean of the rest, which draws the least edge."""
    mean = values[~invalid].mean(axis=0) if invalid.any() else values.mean(axis=(0, 1))
    if brightness or contrast != 1.0:
        values = (values - mean) * np.float32(contrast) + mean + np.float32(brightness)
        mean = mean + brightness
    values = np.where(invalid if values.ndim == 2 else invalid[..., None], mean, values)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
