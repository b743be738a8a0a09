"""A transform fitted to tie points by a robust fit, refined until it stays, and told how sure it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from skimage.measure import ransac
from skimage.transform import SimilarityTransform

from crater_ray_catalogue.candidates import Detections
from crater_ray_catalogue.constellations import Hypothesis
from crater_ray_catalogue.ground import Complex, Ground, Ints, Plane

LEAST = 3  # tie points of a fit
ROUNDS = (
    (0.5, 0.3, 1.5),
    (0.35, 0.2, 1.4),
    (0.3, 0.15, 1.4),
)  # reach of a tie, of the fit (diameters), ratio
TRIALS = 500


@dataclass(frozen=True)
class Georeference:
    """Where an image lies: w = x - iy (pixels) is at a w + b kilometres on the plane that touches at its
    middle.
    """

    plane: Plane
    a: complex
    b: complex

    @property
    def scale(self) -> float:
        """Kilometres a pixel."""
        return abs(self.a)

    @property
    def rotation(self) -> float:
        """Where the image's up points, degrees clockwise from north, -180..180."""
        return float(-np.degrees(np.angle(self.a)))

    def ground(self, x: Any, y: Any) -> Complex:
        """Kilometres on the plane."""
        return np.asarray(self.a * (np.asarray(x) - 1j * np.asarray(y)) + self.b)

    def pixels(self, lat: Any, lon: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """x, y of places; NaN beyond the limb."""
        w = (self.plane.of(lat, lon) - self.b) / self.a
        return w.real, -w.imag

    def place(self, x: Any, y: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Latitude and longitude of pixels."""
        return self.plane.back(self.ground(x, y))


@dataclass(frozen=True)
class TiePoints:
    """T tie points: candidates, entries, and how far apart a transform leaves them, in diameters."""

    detections: Ints
    entry: Ints
    off: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.detections)


class _InDiameters:
    """A similarity whose residuals are shares of each crater's diameter, as RANSAC wants a model."""

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    @classmethod
    def from_estimate(cls, source: Any, target: Any, diameter: Any) -> Self | None:
        transform = SimilarityTransform.from_estimate(source, target)
        return cls(transform) if transform else None

    def residuals(self, source: Any, target: Any, diameter: Any) -> Any:
        return self.transform.residuals(source, target) / diameter


def register(
    hypothesis: Hypothesis, detections: Detections, ground: Ground, size: tuple[int, int], least: float
) -> tuple[Georeference, TiePoints] | None:
    """The transform that a guess leads to, and its tie points; None where too few agree.

    size: (width, height) of the image; least: pixels across an entry that may be a tie.
    """
    places = ground.entries.places
    plane = Plane(
        float(places.lat[hypothesis.correspondence.entry]),
        float(places.lon[hypothesis.correspondence.entry]),
        ground.body,
    )
    placed = Georeference(plane, hypothesis.a, hypothesis.b)
    ties = None
    for reach, threshold, ratio in ROUNDS:
        centred = centre(placed, size)
        if centred is None:
            return None
        placed = centred
        pairs = nearest(placed, detections, ground, size, least, reach, ratio)
        if len(pairs) < LEAST:
            return None
        target = placed.plane.of(places.lat[pairs.entry], places.lon[pairs.entry])
        source = detections.x[pairs.detections] - 1j * detections.y[pairs.detections]
        data = _points(source), _points(target), ground.diameter[pairs.entry]
        model, agree = ransac(data, _InDiameters, 2, threshold, max_trials=TRIALS, rng=0)
        if model is None or agree is None or int(agree.sum()) < LEAST:
            return None
        a, b = _complex(model.transform)
        placed = Georeference(placed.plane, a, b)
        off = np.abs(a * source + b - target) / ground.diameter[pairs.entry]
        ties = TiePoints(pairs.detections[agree], pairs.entry[agree], off[agree])
    return (placed, ties) if ties is not None else None


def centre(placed: Georeference, size: tuple[int, int]) -> Georeference | None:
    """The same transform on the plane that touches at the image's middle; None where that is off the body."""
    x, y = (size[0] - 1) / 2, (size[1] - 1) / 2
    lat, lon = placed.place(x, y)
    step = 0.1 * min(size)
    there = placed.place([x, x + step], [y, y])
    if not all(np.isfinite(values).all() for values in there):
        return None
    plane = Plane(float(lat), float(lon), placed.plane.body)
    points = plane.of(*there)
    a = complex((points[1] - points[0]) / step)
    return Georeference(plane, a, -a * complex(x, -y))


def in_view(
    placed: Georeference, ground: Ground, size: tuple[int, int], least: float
) -> tuple[Ints, NDArray[np.float64], NDArray[np.float64]]:
    """Entries with their middle in the image and `least` pixels across: rows, x, y."""
    corner = placed.scale * float(np.hypot(*size)) / 2
    rows = ground.near(placed.plane.lat, placed.plane.lon, 1.1 * corner)
    rows = rows[ground.diameter[rows] >= least * placed.scale]
    places = ground.entries.places
    x, y = placed.pixels(places.lat[rows], places.lon[rows])
    with np.errstate(invalid="ignore"):
        seen = (x >= -0.5) & (x <= size[0] - 0.5) & (y >= -0.5) & (y <= size[1] - 0.5)
    return rows[seen], x[seen], y[seen]


def nearest(
    placed: Georeference,
    detections: Detections,
    ground: Ground,
    size: tuple[int, int],
    least: float,
    reach: float,
    ratio: float,
) -> TiePoints:
    """Candidates and entries in view, one-to-one, the nearest first."""
    rows, x, y = in_view(placed, ground, size, least)
    width = ground.diameter[rows] / placed.scale
    off = np.hypot(detections.x[:, None] - x, detections.y[:, None] - y) / width
    like = np.abs(np.log(detections.diameter[:, None] / width))
    cost = np.where((off <= reach) & (like <= np.log(ratio)), off + like, np.inf)
    ones, others, offs = [], [], []
    while cost.size and np.isfinite(cost.min()):
        one, other = np.unravel_index(int(np.argmin(cost)), cost.shape)
        ones.append(int(one))
        others.append(int(rows[other]))
        offs.append(float(off[one, other]))
        cost[one, :], cost[:, other] = np.inf, np.inf
    return TiePoints(np.array(ones, np.int64), np.array(others, np.int64), np.array(offs))


def _points(places: Complex) -> NDArray[np.float64]:
    return np.stack([places.real, places.imag], 1)


def _complex(transform: Any) -> tuple[complex, complex]:
    matrix = np.asarray(transform.params)
    return complex(matrix[0, 0], matrix[1, 0]), complex(matrix[0, 2], matrix[1, 2])
