"""The light that a lit ground sends to a camera: reflection, cast shadows, albedo.

McEwen, Icarus 92 (1991), gives the laws: Lambert `mu0`, Lommel–Seeliger `mu0 / (mu0 + mu)` and their mixture
for the Moon; mu0 and mu are the cosines between the slope and the sun, and the camera.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from crater_ray.errors import BadImage
from crater_ray_mosaic.camera.drawn import Camera
from crater_ray_mosaic.camera.options import Photometry
from crater_ray_mosaic.shade import rising

Array = NDArray[np.float32]
SUN_RADIUS = 0.2666  # degrees, from one astronomical unit
NEAR = 24.0  # pixels, up to which a march takes every one
BELOW_ALL = -1e6  # metres: ground that is not known hides nothing
LUNAR_WEIGHT = 0.6  # of Lommel–Seeliger in the mixture: McEwen's at phase angles near 60 degrees


def reflected(
    height: Array, spacing: float, azimuth: float, elevation: float, tilt: float, law: Photometry
) -> Array:
    """(S, S) light of heights (S + 2, S + 2) metres, spacing metres; at most 1; NaN as `rising`.

    azimuth and elevation of the sun as in `shade.lambert`; the camera is tilted by degrees toward the image's
    lower side.
    """
    right, up = rising(height, spacing)
    a, e, t = math.radians(azimuth), math.radians(elevation), math.radians(tilt)
    length = np.sqrt(1.0 + right * right + up * up)
    sun = (math.sin(e) - right * (math.sin(a) * math.cos(e)) - up * (math.cos(a) * math.cos(e))) / length
    sun = np.maximum(sun, 0.0)
    if law == "lambert":
        return np.asarray(sun, np.float32)
    camera = np.maximum((math.cos(t) + up * math.sin(t)) / length, 0.02)
    seeliger = sun / (sun + camera)
    if law == "lommel_seeliger":
        return np.asarray(seeliger, np.float32)
    return np.asarray(LUNAR_WEIGHT * 2.0 * seeliger + (1.0 - LUNAR_WEIGHT) * sun, np.float32) / np.float32(
        1.6
    )


def horizon(height: Array, spacing: float, azimuth: float) -> Array:
    """The tangent of the elevation under which relief hides the sky toward an azimuth: (S, S), -inf: nothing.

    By ray marching through heights (S, S) metres, in steps of one pixel. Farther off they are of two, through
    heights each the largest of nine pixels, so that no ridge is stepped over.
    """
    size, a = len(height), math.radians(azimuth)
    ground = np.pad(np.where(np.isfinite(height), height, BELOW_ALL).astype(np.float32), (0, 1), mode="edge")
    found = np.full(height.shape, -np.inf, np.float32)
    near, far = ground, maximum_filter(ground, 3)
    away = 1.0
    while away < size:
        ground = near if away < NEAR else far
        down, across = -away * math.cos(a), away * math.sin(a)
        rows, columns = _inside(down, size), _inside(across, size)
        if rows.stop > rows.start and columns.stop > columns.start:
            there = _shifted(ground, rows, columns, down, across)
            rise = (there - height[rows, columns]) * np.float32(1.0 / (away * spacing))
            np.fmax(found[rows, columns], rise, out=found[rows, columns])
        away += 1.0 if away < NEAR else 2.0
    return found


def _inside(shift: float, size: int) -> slice:
    """Indices that, moved by shift, lie within 0..size - 1."""
    return slice(max(0, math.ceil(-shift)), min(size, math.floor(size - 1 - shift) + 1))


def _shifted(ground: Array, rows: slice, columns: slice, down: float, across: float) -> Array:
    """Bilinear heights at (rows + down, columns + across), of heights with one row and column more."""
    whole_down, whole_across = math.floor(down), math.floor(across)
    top, bottom = rows.start + whole_down, rows.stop + whole_down
    left, right = columns.start + whole_across, columns.stop + whole_across
    part_down, part_across = np.float32(down - whole_down), np.float32(across - whole_across)
    block = ground[top : bottom + 1, left : right + 1]
    block = block[:, :-1] + part_across * (block[:, 1:] - block[:, :-1])
    return np.asarray(block[:-1] + part_down * (block[1:] - block[:-1]), np.float32)


def sunlit(tangent: Array, elevation: float, radius: float = SUN_RADIUS) -> Array:
    """The share of the sun's disc, of a radius in degrees, above a horizon: 0 umbra, 1 full light."""
    above = np.clip((elevation - np.degrees(np.arctan(tangent))) / radius, -1.0, 1.0)
    share = 0.5 + (above * np.sqrt(1.0 - above * above) + np.arcsin(above)) / math.pi
    return np.asarray(share, np.float32)


def fractal(size: int, random: np.random.Generator) -> Array:
    """(size, size) of mean 0 and standard deviation 1; power falls with frequency to the 1.5th to 3rd."""
    slope = random.uniform(1.5, 3.0)
    field = random.standard_normal((size, size))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = np.inf
    made = np.fft.irfft2(np.fft.rfft2(field) * frequency ** (-slope / 2), s=(size, size))
    return np.asarray((made - made.mean()) / max(float(made.std()), 1e-12), np.float32)


def halo(size: int, random: np.random.Generator) -> Array:
    """(size, size) from 1 upward: bright ground about some place, with rays."""
    y, x = np.mgrid[:size, :size] / size - random.uniform(0.2, 0.8, (2, 1, 1))
    reach, angle = random.uniform(0.05, 0.25), np.arctan2(y, x)
    rays = sum(
        random.uniform(0.2, 1.0) * np.maximum(np.cos(angle * k + random.uniform(0, 2 * math.pi)), 0.0) ** 8
        for k in random.integers(2, 9, 3).tolist()
    )
    away = np.hypot(x, y)
    bright = np.exp(-away / reach) + 0.7 * rays * np.exp(-away / (3 * reach))
    return np.asarray(1.0 + random.uniform(0.2, 0.9) * bright, np.float32)


def albedo(size: int, camera: Camera, chart: Array | None = None) -> Array | None:
    """(size, size) factor of the light, None: 1 everywhere. chart: a real map, NaN where it has none.

    Raises BadImage for a chart that lacks a tenth of the view, or has no light.
    """
    factor = None
    if camera.albedo:
        if chart is not None:
            there = np.isfinite(chart)
            if there.mean() <= 0.9:
                raise BadImage(f"query_albedo has no data for {1 - there.mean():.0%} of the view")
            if not np.nanmean(chart) > 0:
                raise BadImage(
                    f"query_albedo has a mean of {np.nanmean(chart):.3g} in the view; it must be above 0"
                )
            logs = np.log(np.maximum(chart / np.nanmean(chart), 0.05))
            factor = np.exp(np.nan_to_num(logs * np.float32(2.0 * camera.albedo / 0.4)))
        else:
            factor = np.exp(np.float32(camera.albedo) * fractal(size, camera.random(1)))
    if camera.rays:
        bright = halo(size, camera.random(2))
        factor = bright if factor is None else factor * bright
    return factor
