"""How alike the views of each pair are: late interaction both ways, kept as it is computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from crater_ray.files import whole_file
from crater_ray.plugins import Index
from crater_ray_catalogue.entries import Entries
from crater_ray_catalogue.proposals import CandidatePairs
from crater_ray_catalogue.stage import key

PAIRS = 5000  # a file


def scores(
    index: Index, neighbours: ds.Dataset, first: Entries, second: Entries, pairs: CandidatePairs, folder: Path
) -> NDArray[np.float64]:
    """(P,) the mean of both directions and of all scales, above what each entry scores with its neighbours.

    Views are paired by scale, the narrowest with the narrowest. Scores lie below `folder` in pieces: a run
    that was cut goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    usual = _usual(neighbours)
    found = np.empty(len(pairs.first))
    made_of = key(list(index.ids), index.items(["stamp"])["stamp"].to_pylist())
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("views compared", total=len(found))
        for start in range(0, len(found), PAIRS):
            rows = slice(start, start + PAIRS)
            ones, others = pairs.first[rows].tolist(), pairs.second[rows].tolist()
            path = (
                folder / f"{key(made_of, [first.ids[i] for i in ones], [second.ids[j] for j in others])}.npy"
            )
            if not path.exists():
                with whole_file(path) as own:
                    np.save(own, _score(index, first, second, ones, others))
            found[rows] = np.load(path)
            progress.update(task, completed=min(start + PAIRS, len(found)))
    expected = [
        np.array([np.mean([usual.get(view, np.nan) for view in views]) for views in entries.views])
        for entries in (first, second)
    ]
    above = found - (expected[0][pairs.first] + expected[1][pairs.second]) / 2
    return np.where(np.isfinite(above), above, found - np.nanmedian(found))


def _score(
    index: Index, first: Entries, second: Entries, ones: list[int], others: list[int]
) -> NDArray[np.float64]:
    asked: list[tuple[str, str]] = []
    counts = []
    for one, other in zip(ones, others, strict=True):
        views = list(zip(first.views[one], second.views[other], strict=False))
        counts.append(len(views))
        asked += views
    forward = np.asarray(index.score(asked), np.float64)
    backward = np.asarray(index.score([(b, a) for a, b in asked]), np.float64)
    starts = np.r_[0, np.cumsum(counts)[:-1]]
    return np.asarray(np.add.reduceat((forward + backward) / 2, starts) / counts, np.float64)


def _usual(neighbours: ds.Dataset) -> dict[str, float]:
    """View -> the mean score of its neighbours: what it gets from views that are merely like it."""
    total: dict[str, float] = {}
    count: dict[str, int] = {}
    for batch in neighbours.to_batches(columns=["query_id", "score"]):
        table = (
            pa.Table.from_batches([batch])
            .group_by("query_id")
            .aggregate([("score", "sum"), ("score", "count")])
        )
        table = table.filter(pc.is_valid(table["score_sum"]))
        for id, add, n in zip(
            *(table[name].to_pylist() for name in ("query_id", "score_sum", "score_count")), strict=True
        ):
            total[id] = total.get(id, 0.0) + add
            count[id] = count.get(id, 0) + n
    return {id: total[id] / count[id] for id in total}
