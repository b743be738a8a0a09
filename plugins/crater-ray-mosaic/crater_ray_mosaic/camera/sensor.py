"""From light to greys: blur, uneven light, response, noise, grain, lines, JPEG."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from crater_ray_mosaic.camera.drawn import Camera

Array = NDArray[np.float32]


def taken(light: Array, invalid: NDArray[np.bool_], camera: Camera) -> NDArray[np.uint8]:
    """(S, S) or (S, S, 3) uint8 of light of any range; what is invalid is black, as beyond a frame's edge."""
    size = len(light)
    filled = np.where(_like(invalid, light), np.float32(light[~invalid].mean()), light)
    if camera.blur:
        sigma = camera.blur * size / 112.0
        filled = gaussian_filter(filled, (sigma, sigma, 0.0)[: filled.ndim])
    if camera.vignetting or camera.gradient:
        filled = filled * _like(uneven(size, camera), filled)
    low, high = np.percentile(filled[~invalid], (100.0 * camera.black + 0.5, 99.5 - 100.0 * camera.white))
    greys = np.clip((filled - low) / max(float(high - low), 1e-9), 0.0, 1.0) ** np.float32(camera.gamma)
    greys = _noisy(greys, camera)
    greys = camera.level * (1.0 - camera.contrast) + camera.contrast * greys
    greys = np.where(_like(invalid, greys), 0.0, greys)
    if camera.dropped or camera.strips:
        greys = _lines(greys, camera)
    pixels = np.clip(np.rint(255.0 * greys), 0, 255).astype(np.uint8)
    return _jpeg(pixels, camera.jpeg) if camera.jpeg else pixels


def uneven(size: int, camera: Camera) -> Array:
    """(size, size) factor of the light: 1 - vignetting in the corners, and a slope across the frame."""
    y, x = np.mgrid[:size, :size] / max(1, size - 1) * 2.0 - 1.0
    angle = camera.random(3).uniform(0, 2 * np.pi)
    across = (x * np.cos(angle) + y * np.sin(angle)) / np.sqrt(2.0)  # -1..1
    factor = (1.0 - camera.vignetting * (x * x + y * y) / 2.0) * (
        1.0 - camera.gradient * (1.0 + across) / 2.0
    )
    return np.asarray(factor, np.float32)


def _noisy(greys: Array, camera: Camera) -> Array:
    noisy: Any = greys
    if camera.noise:
        noisy = noisy + np.float32(camera.noise) * camera.random(4).standard_normal(greys.shape)
    if camera.grain:
        random = camera.random(5)
        coarse = gaussian_filter(random.standard_normal(greys.shape[:2]), random.uniform(0.5, 1.2))
        film = coarse / coarse.std() * camera.grain
        noisy = noisy + _like(film, greys) * (0.4 + 2.4 * np.clip(noisy * (1.0 - noisy), 0.0, 0.25))
    return np.asarray(np.clip(noisy, 0.0, 1.0), np.float32)


def _lines(greys: Array, camera: Camera) -> Array:
    random, greys = camera.random(6), greys.copy()
    view = greys if random.random() < 0.5 else np.swapaxes(greys, 0, 1)
    size = len(view)
    if camera.dropped:
        view[random.integers(0, size, random.integers(1, max(2, size // 20)))] = random.choice([0.0, 1.0])
    else:
        each = int(random.integers(max(2, size // 16), max(3, size // 3)))
        for start in range(int(random.integers(0, each)), size, each):
            view[start : start + each] += random.uniform(-0.08, 0.08)
            view[start : start + 1] = random.uniform(0.6, 1.0)
    return np.clip(greys, 0.0, 1.0)


def _jpeg(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def _like(plane: Any, values: Array) -> Any:
    """A plane (S, S), to go with values of bands too."""
    return plane if values.ndim == 2 else plane[..., None]
