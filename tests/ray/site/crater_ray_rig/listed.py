"""A reader of whatever a JSON file lists at the moment: {part: [[id, pattern], …]}; pictures as `disks`."""

import json
from pathlib import Path

import pyarrow as pa

from crater_ray.types import Item
from crater_ray_rig.disks import draw


class Listed:
    columns = pa.schema([("pattern", pa.int32())])

    def __init__(self, path):
        self.path = Path(path)

    def parts(self):
        return sorted(json.loads(self.path.read_text()))

    def read(self, part):
        for id, pattern in json.loads(self.path.read_text())[part]:
            yield Item(id, f"c{pattern // 2}", str(pattern), columns={"pattern": pattern})

    def load(self, uri):
        return draw(int(uri))
