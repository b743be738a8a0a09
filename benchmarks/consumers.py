"""Seconds and memory of `dedup`, `analogues` and `match` over two whole catalogues, 10^5 entries and more.

    python benchmarks/consumers.py [--entries 100000] [--json]

Places and diameters are the two lunar catalogues' own (rows of Head2010 dropped from the second), the
largest first; vectors, scores and neighbours are made up, so that no image is encoded: this is what a
consumer itself takes, beside the index's files. Each runs in a process of its own, with a neighbour table
of ten a view.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from table import Report, arguments, show

from crater_ray.types import Hit

ROOT = Path(__file__).resolve().parents[1]
MOON = ROOT.parent / "shared" / "data" / "moon"
FILES = ("moon_craters_head_povilaitis.csv", "moon_craters_hkpolyu_ge3km_53of72sectors.csv")
DIM, NEIGHBOURS, SIDE = 384, 10, 512


class Made:
    """An index of both catalogues whose vectors are noise."""

    def __init__(self, entries: int) -> None:
        rows: list[tuple[float, str, str, float, float]] = []
        for side, name in zip("ab", FILES, strict=True):
            with (MOON / name).open(newline="") as file:
                for row in csv.DictReader(file):
                    if side == "a" or row["source"] != "Head2010":
                        place = float(row["lat"]), float(row["lon_e180"])
                        rows.append((float(row["diam_km"]), side, row["crater_id"], *place))
        rows = sorted(rows, reverse=True)[:entries]
        diameter, side, crater, lat, lon = zip(*rows, strict=True)
        ids = [f"{a}:{b}_x3" for a, b in zip(side, crater, strict=True)]
        self.table = pa.table(
            {
                "id": ids,
                "group": [id.removesuffix("_x3") for id in ids],
                "uri": ids,
                "stamp": [""] * len(ids),
                "body": ["moon"] * len(ids),
                "lat": np.array(lat),
                "lon": np.array(lon),
                "diameter_km": np.array(diameter),
                "half_width_km": 1.5 * np.array(diameter),
                "catalogue": side,
                "crater": crater,
            }
        )
        self._vectors = np.random.default_rng(0).standard_normal((len(ids), 1, DIM)).astype(np.float16)

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def ids(self) -> list[str]:
        return list(self.table["id"].to_pylist())

    @cached_property
    def _row(self) -> dict[str, int]:
        return {id: row for row, id in enumerate(self.ids)}

    def items(self, columns: Iterable[str] | None = None) -> pa.Table:
        return self.table if columns is None else self.table.select(list(columns))

    def vectors(self) -> Any:
        return self._vectors

    def score(self, pairs: Sequence[tuple[str, str]]) -> Any:
        rows = np.array([(self._row[a], self._row[b]) for a, b in pairs])
        found = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), 256):
            one, other = rows[start : start + 256].T
            found[start : start + 256] = (
                self._vectors[one, 0].astype(np.float32) * self._vectors[other, 0].astype(np.float32)
            ).mean(1)
        return found

    def search(self, image: Any = None, *, top: int = 10, **more: Any) -> list[Hit]:
        """Nothing that fits: what a match with ground that the index has not takes."""
        draw = np.random.default_rng(int(np.asarray(image, np.int64).sum()))
        rows = draw.integers(0, len(self), top).tolist()
        return [
            Hit(n, self.ids[row], self.ids[row].removesuffix("_x3"), 1 / n) for n, row in enumerate(rows, 1)
        ]

    def image(self, id: str) -> Any:
        return np.random.default_rng(self._row[id]).integers(0, 256, (224, 224, 3), np.uint8)

    def neighbours(self, path: Path) -> ds.Dataset:
        draw = np.random.default_rng(1)
        with pq.ParquetWriter(
            path, pa.schema([("query_id", pa.string()), ("score", pa.float32())])
        ) as writer:
            for start in range(0, len(self), 10_000):
                ids = np.repeat(self.ids[start : start + 10_000], NEIGHBOURS)
                scores = draw.random(len(ids), np.float32)
                writer.write_table(pa.table({"query_id": ids, "score": scores}))
        return ds.dataset(path)


def run(name: str, entries: int) -> dict[str, float]:
    """One consumer, here."""
    from PIL import Image

    from crater_ray.plugins import registry

    index = Made(entries)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        table = index.neighbours(folder / "neighbours.parquet")
        Image.fromarray(index.image(index.ids[0])[..., 0]).resize((SIDE, SIDE)).save(folder / "picture.png")
        options: dict[str, Any] = {
            "dedup": {},
            "analogues": {"like": [index.table["crater"][0].as_py()], "classes": 12},
            "match": {"image": str(folder / "picture.png"), "catalogue": "b", "pixels": 12.0},
        }[name]
        here = registry()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        here.build(here.ref("consumer", name, options))(index, table, folder / "out")
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"entries": len(index), "seconds": seconds, "gib": peak / 2**20, "before_gib": before / 2**20}


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=136_892, help="at most; both catalogues have 136,892")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not MOON.is_dir():
        sys.exit(f"{MOON} is absent")
    if options.one:
        print(json.dumps(run(options.one, options.entries)))
        return
    rows, keys = [], {}
    for name in ("dedup", "analogues", "match"):
        command = [sys.executable, __file__, "--one", name, "--entries", str(options.entries)]
        told = json.loads(
            subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1]
        )
        rows.append((name, f"{told['entries']:,}", f"{told['seconds']:.0f}", told["gib"], told["before_gib"]))
        keys[f"{name}_gib"] = told["gib"]
    columns = ("consumer", "entries", "seconds", "peak, GiB", "of them the made-up index, GiB")
    wanted = dict.fromkeys(keys, "<= 4")
    notes = ("match: a picture that the index has not, so that all of its windows are asked",)
    show(
        Report("Consumers over two catalogues", columns, rows, keys, wanted, notes),
        options,
        numpy=version("numpy"),
    )


if __name__ == "__main__":
    main()
