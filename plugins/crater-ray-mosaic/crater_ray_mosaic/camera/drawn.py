"""One camera: what happens to one view, out of the options and the view's number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from crater_ray_mosaic.camera.options import CameraOptions, Photometry


@dataclass(frozen=True, slots=True)
class Camera:
    """What is 0 (or `lambert`, 1 for gamma and contrast, False) does not happen."""

    seed: int
    shadows: bool = False
    photometry: Photometry = "lambert"
    albedo: float = 0.0  # standard deviation of the logarithm
    rays: bool = False
    tilt: float = 0.0  # degrees
    quarter: Literal[0, 1, 2, 3] = 0  # from which side of the image it looks: 0 below, then counter-clockwise
    blur: float = 0.0  # pixels of 112
    vignetting: float = 0.0
    gradient: float = 0.0
    gamma: float = 1.0
    black: float = 0.0  # shares of the pixels
    white: float = 0.0
    noise: float = 0.0
    grain: float = 0.0
    dropped: bool = False
    strips: bool = False
    jpeg: int = 0  # quality
    contrast: float = 1.0
    level: float = 0.5  # where the greys lie in the range that contrast leaves, 0..1

    def random(self, stream: int) -> np.random.Generator:
        """Numbers that only the camera's seed and the stream decide, on every machine alike."""
        return np.random.Generator(np.random.Philox(key=[self.seed, stream]))


def drawn(options: CameraOptions, seed: int) -> Camera:
    """The camera of a seed. All numbers are drawn, used or not: a changed share moves no other effect."""
    random = np.random.Generator(np.random.Philox(key=[seed, 0]))
    numbers: Iterator[float] = iter(random.random(64).tolist())

    def happens(share: float) -> bool:
        return next(numbers) < share

    def between(bounds: tuple[float, float]) -> float:
        low, high = bounds
        return low + (high - low) * next(numbers)

    def some(share: float, bounds: tuple[float, float], otherwise: float = 0.0) -> float:
        there, value = happens(share), between(bounds)
        return value if there else otherwise

    shadows = happens(options.shadows)
    law = options.photometry[int(next(numbers) * len(options.photometry))]
    albedo = some(options.albedo, options.albedo_strength)
    rays = happens(options.rays)
    tilt = some(options.tilted, options.tilt)
    quarter = int(next(numbers) * 4)
    blur = some(options.blur, options.blur_pixels)
    uneven, radial = some(options.uneven, options.uneven_strength), happens(0.5)
    curve = happens(options.response)
    gamma, black, white = between(options.gamma), between(options.clipped), between(options.clipped)
    noise = some(options.noise, options.noise_strength)
    grain = some(options.grain, options.grain_strength)
    lines, dropped = happens(options.lines), happens(0.5)
    jpeg = round(some(options.jpeg, options.jpeg_quality))
    contrast, level = between(options.contrast), next(numbers)
    return Camera(
        seed,
        shadows=shadows,
        photometry=law,
        albedo=albedo,
        rays=rays,
        tilt=tilt,
        quarter=quarter,  # type: ignore[arg-type]
        blur=blur,
        vignetting=uneven if radial else 0.0,
        gradient=0.0 if radial else uneven,
        gamma=gamma if curve else 1.0,
        black=black if curve else 0.0,
        white=white if curve else 0.0,
        noise=noise,
        grain=grain,
        dropped=lines and dropped,
        strips=lines and not dropped,
        jpeg=jpeg,
        contrast=contrast,
        level=level,
    )
