"""What a catalogue is once it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """N craters. lat (N,) degrees, planetocentric; lon (N,) degrees east, -180..180; diameter (N,) km."""

    ids: Sequence[str]
    lat: Floats
    lon: Floats
    diameter: Floats
    skipped: Mapping[str, int] = field(default_factory=dict)  # reason -> rows of the file without a crater

    def __len__(self) -> int:
        return len(self.ids)

    def where(self, keep: NDArray[np.bool_]) -> Catalogue:
        """The craters of a mask, in the same order."""
        ids = [self.ids[row] for row in np.flatnonzero(keep).tolist()]
        return Catalogue(ids, self.lat[keep], self.lon[keep], self.diameter[keep], self.skipped)

    def inside(self, box: Box) -> NDArray[np.bool_]:
        """(N,) whether a centre is in [west, south, east, north]; west > east: over ±180°."""
        west, south, east, north = box
        width = (east - west) % 360.0 or 360.0
        return ((self.lon - west) % 360.0 <= width) & (self.lat >= south) & (self.lat <= north)
