"""Pixels of planned images, through the readers that list them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from crater_ray.errors import BadImage
from crater_ray.plugins import Backbone, registry
from crater_ray_supscene.training.plan import Plan

MOST_PIXELS = 64_000_000
Pixels = NDArray[np.uint8]


class Pictures:
    """Ready for a backbone, by row of the plan; loaded in a few threads."""

    def __init__(self, plan: Plan, backbone: Backbone, threads: int = 2) -> None:
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
            return self._preprocess(decoded(data))
        except BadImage as error:
            return error.message


def decoded(data: bytes | NDArray[Any]) -> Pixels:
    """(H, W, 3) uint8 of what a reader gives, upright. Raises BadImage."""
    if isinstance(data, np.ndarray):
        array = data if data.ndim == 3 else data[:, :, None]
        if array.dtype != np.uint8 or array.shape[2] not in (1, 3):
            raise BadImage(f"array of shape {data.shape} {data.dtype}, not (H, W[, 3]) uint8")
        return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise BadImage(f"{image.width} x {image.height} pixels, more than {MOST_PIXELS}")
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except BadImage:
        raise
    except Exception as error:  # the bytes are in memory: whatever a decoder raises, it is about them
        raise BadImage(f"cannot be decoded: {type(error).__name__}: {error}") from error
