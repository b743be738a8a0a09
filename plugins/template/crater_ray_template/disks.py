"""A reader: lists items by part, and loads one item's pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from crater_ray.errors import BadImage
from crater_ray.types import Item

IN_PART = 8  # disks


class Disks:
    """Coloured disks on coloured ground. The views of one disk are one group, a little shifted and lit."""

    columns = pa.schema([("radius", pa.float64())])

    def __init__(self, disks: int, views: int, seed: int, size: int) -> None:
        self.disks, self.views, self.seed, self.size = disks, views, seed, size

    def parts(self) -> list[str]:
        """Named by what is in them, so that a part keeps its name when others come."""
        return [f"disks-{first:06d}" for first in range(0, self.disks, IN_PART)]

    def read(self, part: str) -> Iterator[Item]:
        first = int(part.removeprefix("disks-"))
        for disk in range(first, min(first + IN_PART, self.disks)):
            for view in range(self.views):
                yield Item(
                    id=f"disk-{disk:06d}-{self.seed}-{view}",
                    group=f"disk-{disk:06d}",
                    uri=f"{disk}/{view}",
                    stamp=f"size {self.size}",
                    columns={"radius": float(_disk(disk)["radius"])},
                )

    def load(self, uri: str) -> np.ndarray[Any, Any]:
        """(H, W, 3) uint8. Many threads call this at once."""
        try:
            disk, view = (int(word) for word in uri.split("/"))
        except ValueError:
            raise BadImage(f"{uri!r} is not disk/view") from None
        found = _disk(disk)
        random = np.random.default_rng((self.seed, disk, view))
        shift, light = random.uniform(-0.04, 0.04, 2), random.uniform(0.85, 1.0)
        y, x = np.mgrid[: self.size, : self.size] / self.size
        inside = np.hypot(x - 0.5 - shift[0], y - 0.5 - shift[1]) < found["radius"]
        image = np.where(inside[:, :, None], found["colour"], found["ground"]) * light
        return np.asarray(image, np.uint8)


def _disk(number: int) -> dict[str, Any]:
    random = np.random.default_rng(number)
    return {
        "radius": random.uniform(0.15, 0.4),
        "colour": random.uniform(40, 255, 3),
        "ground": random.uniform(40, 255, 3),
    }
