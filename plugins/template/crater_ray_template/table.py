"""A consumer: uses an index and its neighbour table, and returns the path it wrote."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset as ds

from crater_ray.files import whole_file
from crater_ray.plugins import Index


class Table:
    """template_table.csv: query_id, rank, id, score of the `top` nearest, and the group of each."""

    def __init__(self, top: int) -> None:
        self.top = top

    def __call__(self, index: Index, neighbours: ds.Dataset, out: Path) -> Path:
        columns = ["query_id", "rank", "id", "score"]
        near = neighbours.to_table(columns=columns, filter=pc.field("rank") <= self.top)
        near = near.join(index.items(["id", "group"]), "id")
        near = near.sort_by([("query_id", "ascending"), ("rank", "ascending")])
        path = out / "template_table.csv"
        with whole_file(path) as own:
            pyarrow.csv.write_csv(near.select(["query_id", "rank", "id", "group", "score"]), own)
        return path
