"""Pixels of planned images, through the readers that list them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from crater_ray.errors import BadImage
from crater_ray.images import pixels
from crater_ray.plugins import Backbone, registry
from crater_ray_supscene.training.plan import TrainingPlan

MOST_PIXELS = 64_000_000


class Pictures:
    """Ready for a backbone, by row of the plan; loaded in a few threads."""

    def __init__(self, plan: TrainingPlan, backbone: Backbone, threads: int = 2) -> None:
        self._readers = [registry().build(ref) for ref in plan.readers]
        self._reader = plan.images["reader"].to_pylist()
        self._uri = plan.images["uri"].to_pylist()
        self._preprocess = backbone.preprocess
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def load(self, rows: Sequence[int]) -> list[Any]:
        """A (3, S, S) tensor for each row, or the reason why that image cannot be used."""
        return list(self._pool.map(self._one, rows))

    def _one(self, row: int) -> Any:
        try:
            data = self._readers[self._reader[row]].load(self._uri[row])
            return self._preprocess(pixels(data, MOST_PIXELS))
        except BadImage as error:
            return error.message
