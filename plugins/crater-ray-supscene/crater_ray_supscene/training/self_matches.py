"""Held-out images that are both query and gallery: a query is no answer to itself.

As in `crater-ray evaluate`: by id where one reader lists both, and by pixels under any id.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from crater_ray.errors import BadImage
from crater_ray.images import pixels
from crater_ray.plugins import registry
from crater_ray_supscene.training.pictures import MOST_PIXELS
from crater_ray_supscene.training.plan import Integers, TrainingPlan

NEAR = 0.9999  # cosine of vectors from which pixels are compared; one image's differ by rounding alone


def self_matches(
    plan: TrainingPlan, queries: Integers, gallery: Integers, cosines: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """(B, N) which rows of the gallery are a query itself; cosines (B, N) of their vectors."""
    found = plan.same(queries, gallery)
    readers, uris = plan.images["reader"].to_pylist(), plan.images["uri"].to_pylist()

    @cache
    def reader(number: int) -> Any:
        return registry().build(plan.readers[number])

    @cache
    def digest(row: int) -> str:
        try:
            image = pixels(reader(readers[row]).load(uris[row]), MOST_PIXELS)
        except BadImage:  # it could be used a moment ago: it is nobody's double
            return f"row {row}"
        return xxhash.xxh3_128_hexdigest(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes())

    for at, column in zip(*np.nonzero((cosines >= NEAR) & ~found), strict=True):
        found[at, column] = digest(int(queries[at])) == digest(int(gallery[column]))
    return found
