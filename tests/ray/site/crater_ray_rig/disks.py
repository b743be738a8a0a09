"""A reader of drawn disks: two views of each crater, as PNG bytes."""

import io
import os
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from crater_ray.types import Item


class Disks:
    columns = pa.schema([("radius", pa.float32()), ("body", pa.string())])

    def __init__(self, items, per_part, step, gate, gate_item, bad, deadly, raises, twice, broken_part):
        self.items, self.per_part, self.step = items, per_part, step
        self.gate, self.gate_item = gate, gate_item
        self.bad, self.deadly, self.raises, self.twice, self.broken_part = (
            bad,
            deadly,
            raises,
            twice,
            broken_part,
        )

    def parts(self):
        return [f"p{start:04d}" for start in range(0, self.items, self.per_part)]

    def read(self, part):
        if part == self.broken_part:
            raise RuntimeError("this part cannot be listed")
        start = int(part[1:])
        for number in range(start, min(start + self.per_part, self.items)):
            name = f"i{number + self.step:05d}"
            yield Item(
                name,
                f"c{(number + self.step) // 2:05d}",
                name,
                columns={"radius": float(number), "body": "test"},
            )
        if self.twice and start == 0:
            yield Item("i00000", "c00000", "i00000")

    def load(self, uri):
        if uri == self.gate_item and self.gate is not None and Path(self.gate).exists():
            with open(self.gate, "w") as fifo:
                fifo.write(f"{os.getpid()}\n")
            signal.pause()  # until it is killed
        if uri in self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if uri in self.raises:
            raise OSError("the disk under this image does not answer")
        if uri in self.bad:
            return b"not an image"
        return draw(int(uri[1:]))


def draw(number):
    random = np.random.default_rng(number // 2)  # two views of one crater differ by noise only
    image = np.zeros((32, 32, 3), np.uint8)
    for _ in range(6):
        x, y, r = random.integers(0, 32, 3)
        ys, xs = np.mgrid[:32, :32]
        image[(ys - y) ** 2 + (xs - x) ** 2 < (r / 3 + 2) ** 2] = random.integers(30, 255, 3)
    noise = np.random.default_rng(number).integers(0, 6, image.shape)
    data = io.BytesIO()
    Image.fromarray(np.clip(image.astype(int) + noise, 0, 255).astype(np.uint8)).save(data, "PNG")
    return data.getvalue()
