"""Two views of each crater, in memory; one id is as odd as a folder's file names can be."""

import io

import numpy as np
import pyarrow as pa
from PIL import Image

from crater_ray.errors import BadImage
from crater_ray.types import Item

ODD = "../odd 'id' \"of\" 9% <b>/é.jpg"


class Painted:
    columns = pa.schema(
        [
            ("body", pa.string()),
            ("lat", pa.float64()),
            ("lon", pa.float64()),
            ("diameter_km", pa.float64()),
            ("seen", pa.int64()),
            ("fresh", pa.bool_()),
        ]
    )

    def __init__(self, items, first):
        self.items, self.first = items, first

    def parts(self):
        return [f"p{self.first:04d}"]

    def read(self, part):
        for number in range(self.first, self.first + self.items):
            name = ODD if number == 3 else f"i{number:04d}"
            columns = {
                "body": "moon" if number % 3 else "mars",
                "lat": -40.0 + number,
                "lon": -180.0 + 15 * number % 360,
                "diameter_km": None if number == 5 else 5.0 + number,
                "seen": number,
                "fresh": number % 2 == 0,
            }
            yield Item(name, f"c{number // 2:04d}", str(number), columns=columns)

    def cut(self, lat, lon, diameter_km, body):
        if body != "moon":
            raise BadImage(f"no map of {body}")
        return self.load(str(int(lat + 40)))

    def load(self, uri):
        if uri == "7":
            raise BadImage("the tape is lost")
        random = np.random.default_rng(int(uri) // 2)  # two views differ in brightness only
        blocks = random.integers(20, 200, (8, 8, 3)) + 9 * (int(uri) % 2)
        image = np.kron(blocks, np.ones((8, 8, 1))).astype(np.uint8)
        data = io.BytesIO()
        Image.fromarray(image).save(data, "PNG")
        return data.getvalue()
