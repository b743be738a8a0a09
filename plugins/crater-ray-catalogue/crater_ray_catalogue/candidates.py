"""Crater candidates detected in an image by template matching: centres and diameters.

Under a low sun the template is a shaded crater. To first order, shading is the slope towards the sun, so the
responses to two suns at right angles give the response to any. The sun's azimuth is estimated from the
strongest responses. Under a high sun (a full Moon's) the template is a bright ring: the crater's walls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve
from skimage.feature import peak_local_max
from skimage.transform import resize

from crater_ray.errors import UserError
from crater_ray_catalogue.scene import Scene
from crater_ray_mosaic.catalogue import numbers, read_table

Floats = NDArray[np.float64]
Illumination = Literal["low_sun", "high_sun"]
RADIUS = 10  # pixels of the template; the image is resized to fit it
REACH = 1.4  # of the template, in radii
STEP = 2**0.25  # from one radius to the next
LEAST = 0.35  # correlation of a candidate
SHARE = 0.5  # of the larger one's radius, within which two candidates are one


@dataclass(frozen=True)
class Detections:
    """N crater candidates by falling score: pixels, and a score in 0..1."""

    x: Floats
    y: Floats
    diameter: Floats
    score: Floats

    def __len__(self) -> int:
        return len(self.x)

    def first(self, count: int) -> Detections:
        some = slice(0, count)
        return Detections(self.x[some], self.y[some], self.diameter[some], self.score[some])


def find(scene: Scene, least: float, most: int, illumination: Illumination) -> Detections:
    """At most `most` candidates of `least` pixels across or more."""
    image = scene.filled
    widest = min(image.shape) / 2
    count = max(1, int(math.log(widest / least) / math.log(STEP)) + 1) if widest > least else 1
    radii = [least / 2 * STEP**number for number in range(-1, count + 1)]
    pairs = [_responses(image, radius, illumination) for radius in radii]
    if illumination == "low_sun":
        sun = _sun(pairs)
        maps = [pair[0] * math.cos(sun) + pair[1] * math.sin(sun) for pair in pairs]
    else:
        maps = [pair[0] for pair in pairs]
    rows: list[tuple[float, float, float, float]] = []
    for number, (response, radius) in enumerate(zip(maps, radii, strict=True)):
        if number in (0, len(maps) - 1):
            continue  # there to find the width of their neighbours
        near = RADIUS // 2
        for row, column in peak_local_max(
            response, min_distance=near, threshold_abs=LEAST, exclude_border=near
        ):
            score = float(response[row, column])
            high, wide = response.shape
            beside = [
                float(
                    other[
                        min(int((row + 0.5) / high * other.shape[0]), other.shape[0] - 1),
                        min(int((column + 0.5) / wide * other.shape[1]), other.shape[1] - 1),
                    ]
                )
                for other in (maps[number - 1], maps[number + 1])
            ]
            if max(beside) > 1.02 * score:
                continue
            shift = _vertex(beside[0], score, beside[1])
            down = row + _vertex(*(float(response[row + d, column]) for d in (-1, 0, 1)))
            across = column + _vertex(*(float(response[row, column + d]) for d in (-1, 0, 1)))
            x = (across + 0.5) / wide * image.shape[1] - 0.5
            y = (down + 0.5) / high * image.shape[0] - 0.5
            rows.append((score, x, y, 2 * radius * STEP**shift))
    return _apart(rows, most)


def read_detections(path: Path) -> Detections:
    """Detections of another program: CSV x,y,diameter[,score], pixels from the middle of the upper left one.

    Raises UserError for a file or a row that does not fit.
    """
    names = ("x", "y", "diameter", "score")
    table = read_table(
        path, names[:3], optional=names[3:], numeric=names, what="candidates", hint="it needs x,y,diameter"
    )
    columns = {name: numbers(table.columns[name]) for name in names if name in table.columns}
    values = [columns[name].values for name in names[:3]]
    score = columns["score"].values if "score" in columns else np.ones(len(table))
    if "score" in columns:  # an empty score counts as a full one
        score = np.where(columns["score"].empty == 1, 1.0, score)
    good = np.isfinite([score, *values]).all(axis=0) & (values[2] > 0)
    if not good.all():
        raise UserError(
            f"{path.name}:{int(np.argmin(good)) + 2}: x, y and a diameter above 0 are numbers of pixels"
        )
    rows = list(zip(score.tolist(), *(some.tolist() for some in values), strict=True))
    return _apart(rows, len(rows))


def _templates(illumination: Illumination) -> list[Floats]:
    """Of a crater of RADIUS pixels: walls lit from the right and from above; or bright walls."""
    half = math.ceil(REACH * RADIUS)
    across = np.arange(-half, half + 1) / RADIUS
    right, down = across[None, :], across[:, None]
    r = np.hypot(right, down)
    inside = r <= REACH
    if illumination == "high_sun":
        ring = np.exp(-(((r - 0.88) / 0.16) ** 2)) * inside
        return [np.where(inside, ring - ring[inside].mean(), 0.0)]
    slope = np.exp(-(((r - 0.8) / 0.2) ** 2)) - 0.35 * np.exp(-(((r - 1.2) / 0.12) ** 2))
    towards = np.where(inside, -slope / np.maximum(r, 1e-6), 0.0)
    return [towards * right, towards * -down]


def _responses(
    image: NDArray[np.float32], radius: float, illumination: Illumination
) -> list[NDArray[np.float32]]:
    """Normalised correlations with the templates, of the image resized so that `radius` is RADIUS pixels."""
    shape = tuple(max(8, round(side * RADIUS / radius)) for side in image.shape)
    small = resize(image, shape, anti_aliasing=radius > RADIUS, preserve_range=True).astype(np.float64)
    small = (small - small.mean()) / max(float(small.std()), 1e-12)
    templates = _templates(illumination)
    disc = (
        np.hypot(*np.meshgrid(*[np.arange(side) - side // 2 for side in templates[0].shape]))
        <= REACH * RADIUS
    ) * 1.0
    weight = disc.sum()
    mean = fftconvolve(small, disc, "same") / weight
    spread = np.maximum(fftconvolve(small * small, disc, "same") / weight - mean * mean, 0.02)
    return [
        (
            fftconvolve(small, one[::-1, ::-1], "same") / (np.linalg.norm(one) * np.sqrt(spread * weight))
        ).astype(np.float32)
        for one in templates
    ]


def _sun(pairs: Sequence[Sequence[NDArray[np.float32]]]) -> float:
    """Radians from the right, anticlockwise, of the light that the strongest responses agree on."""
    votes = np.zeros(72)
    for right, above in pairs:
        strong = np.hypot(right, above)
        peaks = peak_local_max(
            strong, min_distance=RADIUS // 2, threshold_abs=LEAST, exclude_border=RADIUS // 2
        )
        if len(peaks):
            at = tuple(peaks.T)
            turn = np.arctan2(above[at], right[at])
            votes += np.histogram(turn, 72, (-np.pi, np.pi), weights=strong[at] ** 6)[0]
    smooth = sum(np.roll(votes, shift) * (4 - abs(shift)) for shift in range(-3, 4))
    best = int(np.argmax(smooth))
    some = np.arange(best - 3, best + 4)
    turns = -np.pi + (some + 0.5) * (2 * np.pi / 72)
    return float(np.average(turns, weights=votes[some % 72] + 1e-9))


def _vertex(before: float, here: float, after: float) -> float:
    """Where a parabola through three values is highest, -0.5..0.5 of a step from the middle one."""
    bend = before - 2 * here + after
    return float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0


def _apart(rows: list[tuple[float, float, float, float]], most: int) -> Detections:
    """The best first, none within another."""
    rows = sorted(rows, reverse=True)
    kept = np.zeros((0, 4))
    for row in rows:
        away = np.hypot(kept[:, 1] - row[1], kept[:, 2] - row[2])
        like = np.abs(np.log(kept[:, 3] / row[3])) < math.log(1.7)
        if not (like & (away < SHARE * np.maximum(kept[:, 3], row[3]) / 2)).any():
            kept = np.vstack([kept, row])
        if len(kept) == most:
            break
    return Detections(kept[:, 1], kept[:, 2], kept[:, 3], kept[:, 0])
