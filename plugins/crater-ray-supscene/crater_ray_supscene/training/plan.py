"""The plan of a run: every image of training and of what is held out, who reads it, and who overlaps whom.

<out>/plan/  images.parquet · overlaps.npz · plan.json, last; made once, read by every worker
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from crater_ray.errors import ConfigError, ReaderError
from crater_ray.evaluation.metrics import group_codes, relevance
from crater_ray.files import whole_file, write_whole
from crater_ray.plugins import PluginRef
from crater_ray_supscene.overlap.graph import Edges, OverlapGraph, overlap_graph
from crater_ray_supscene.training.job import TrainJob
from crater_ray_supscene.training.listing import (
    SCHEMA,
    Listing,
    add_scenes,
    items_of,
    of_item,
    place,
    relevant_edges,
    touching,
)

Integers = NDArray[np.int64]
TRAIN, HELD, GALLERY, QUERY = "train", "held", "gallery", "query:"
FILE = "plan.json"


@dataclass(frozen=True)
class TrainingPlan:
    """N images by row, and their overlaps; `unit` is what a subgraph is drawn from, by row."""

    readers: Sequence[PluginRef]
    images: pa.Table  # id, reader, uri, stamp, group, relevant, unit, role
    graph: OverlapGraph

    def __len__(self) -> int:
        return int(self.images.num_rows)

    def rows(self, role: str) -> Integers:
        return np.flatnonzero(np.array(self.images["role"].to_pylist(), object) == role).astype(np.int64)

    def roles(self) -> list[str]:
        return sorted(set(self.images["role"].to_pylist()))

    def units(self) -> list[Integers]:
        """The rows of each unit of training, in order of first appearance."""
        found: dict[str, list[int]] = {}
        names = self.images["unit"].to_pylist()
        for row in self.rows(TRAIN).tolist():
            found.setdefault(names[row], []).append(row)
        return [np.array(rows, np.int64) for rows in found.values()]

    def same(self, queries: Integers, gallery: Integers) -> NDArray[np.bool_]:
        """(B, N) whether rows of the gallery are the query itself: of one reader, by its id."""
        readers, ids = (self.images[key].to_pylist() for key in ("reader", "id"))
        numbers: dict[Any, int] = {}
        asked, there = (
            np.array([numbers.setdefault((readers[row], ids[row]), len(numbers)) for row in rows.tolist()])
            for rows in (queries, gallery)
        )
        found: NDArray[np.bool_] = asked[:, None] == there[None]
        return found

    def relevant(self, queries: Integers, gallery: Integers) -> NDArray[np.bool_]:
        """(B, N) whether rows of the gallery are of a group that a query names, or else of its own.

        A query that is in the gallery itself is not relevant to itself.
        """
        groups, named = (self.images[key].to_pylist() for key in ("group", "relevant"))
        codes, names = group_codes([groups[row] for row in gallery.tolist()])
        wanted = [dict.fromkeys(named[row] or [groups[row]], 1.0) for row in queries.tolist()]
        return np.asarray(relevance(codes, names, wanted)) & ~self.same(queries, gallery)

    def labels(self) -> tuple[Integers, int]:
        """(N,) the class of each image, 0..C-1 for training's groups, -1 for the rest; and C."""
        groups = self.images["group"].to_pylist()
        names: dict[str, int] = {}
        labels = np.full(len(self), -1, np.int64)
        for row in self.rows(TRAIN).tolist():
            labels[row] = names.setdefault(groups[row], len(names))
        return labels, len(names)


def make_plan(job: TrainJob) -> TrainingPlan:
    """The plan of a job. Raises ReaderError for files that do not hold, ConfigError without images."""
    making = Listing()
    for number, table in enumerate(job.scenes):
        add_scenes(making, job, table, TRAIN, f"scenes.{number}")
    train = len(making)
    held = job.held_out
    for number, table in enumerate(held.scenes):
        add_scenes(making, job, table, HELD, f"held_out.scenes.{number}")
    making.edges.append(relevant_edges(making))
    if held.gallery is not None:
        sets = {GALLERY: held.gallery, **{f"{QUERY}{name}": table for name, table in held.queries.items()}}
        for role, plugin in sets.items():
            ref = job.ref("reader", plugin, f"held_out.{role.replace(':', '.')}")
            for item in items_of(ref):
                row = making.add(**of_item(item, making.reader(ref)), unit="", role=role)
                place(making, row, item, held.radius_km)
    drop = touching(making, train) | making.trained_on if held.disjoint else set()
    plan = _finished(making, job, drop, train)
    _teachable(job, plan)
    _answerable(job, plan)
    return plan


def _finished(making: Listing, job: TrainJob, drop: set[int], train: int) -> TrainingPlan:
    keep = np.array([row not in drop for row in range(len(making))], bool)
    if not keep[:train].any():
        raise ConfigError(
            f"{job.path.name}: nothing is left to train on ({len(drop)} views touch what is held out); "
            "choose other [[scenes]], or held_out.disjoint = false"
        )
    number = np.cumsum(keep) - 1
    images = pa.table(making.columns, schema=SCHEMA).filter(pa.array(keep))
    graph = overlap_graph(
        int(keep.sum()), _kept(making.edges, keep, number), _kept(making.unknown, keep, number)
    )
    return TrainingPlan(tuple(making.readers), images, graph)


def _teachable(job: TrainJob, plan: TrainingPlan) -> None:
    """Raises ConfigError where no pair of training images is positive: no loss could teach anything."""
    loss = job.loss
    if loss.vector and loss.name == "arcface" and plan.labels()[1] > 1:
        return
    most = _greatest_overlap(plan, TRAIN)
    if most < loss.positive and not (most > 0 and loss.name == "soft_supcon"):
        raise ConfigError(
            f"{job.path.name}: no two of the {len(plan.rows(TRAIN))} training images are a positive pair "
            f"(their greatest overlap is {most:.3g}, loss.positive is {loss.positive:g}), so nothing "
            "can be learnt; look at what [[scenes]] reads, or lower loss.positive"
        )


def _answerable(job: TrainJob, plan: TrainingPlan) -> None:
    """Raises ConfigError where what is held out has no right answers, so that it could not be measured."""
    if HELD in plan.roles() and _greatest_overlap(plan, HELD) < job.loss.positive:
        raise ConfigError(
            f"{job.path.name}: no two images of [[held_out.scenes]] overlap by loss.positive = "
            f"{job.loss.positive:g}, so nothing can be measured on them"
        )
    gallery = plan.rows(GALLERY)
    for role in plan.roles():
        rows = plan.rows(role)
        if role.startswith(QUERY) and not plan.relevant(rows, gallery).any():
            groups = [plan.images["group"][int(some[0])].as_py() for some in (rows, gallery) if len(some)]
            raise ConfigError(
                f"{job.path.name}: no query of held_out.queries.{role.removeprefix(QUERY)} has a relevant "
                f"image in the gallery but itself (groups of the first of each: {', '.join(groups)})"
            )


def _greatest_overlap(plan: TrainingPlan, role: str) -> float:
    """Of all pairs of a role that somebody measured."""
    rows = plan.rows(role)
    overlap, unknown = plan.graph.overlap[rows][:, rows], plan.graph.unknown[rows][:, rows]
    return float((overlap - overlap.multiply(unknown)).max()) if overlap.nnz else 0.0


def _kept(edges: Sequence[Edges], keep: NDArray[np.bool_], number: NDArray[Any]) -> Edges:
    rows = np.concatenate([e.rows for e in edges] or [np.zeros(0, np.int64)])
    columns = np.concatenate([e.columns for e in edges] or [np.zeros(0, np.int64)])
    weights = np.concatenate([e.weights for e in edges] or [np.zeros(0, np.float32)])
    real = keep[rows] & keep[columns] if len(rows) else np.zeros(0, bool)
    return Edges(number[rows[real]], number[columns[real]], weights[real])


def write_plan(plan: TrainingPlan, folder: Path) -> str:
    """Writes the plan, plan.json last; its digest."""
    with whole_file(folder / "images.parquet") as own:
        pq.write_table(plan.images, own)
    overlap, unknown = plan.graph.overlap.tocoo(), plan.graph.unknown.tocoo()
    arrays = {
        "row": overlap.row.astype(np.int64),
        "col": overlap.col.astype(np.int64),
        "weight": overlap.data,
        "unknown_row": unknown.row.astype(np.int64),
        "unknown_col": unknown.col.astype(np.int64),
    }
    with whole_file(folder / "overlaps.npz") as own:
        np.savez(own, allow_pickle=False, **arrays)
    told = {"readers": [asdict(ref) for ref in plan.readers], "digest": digest(plan)}
    write_whole(folder / FILE, json.dumps(told, indent=1).encode())
    return str(told["digest"])


def read_plan(folder: Path) -> TrainingPlan:
    """The plan a driver wrote. Raises ReaderError when it is absent or damaged."""
    try:
        told = json.loads((folder / FILE).read_text(encoding="utf-8"))
        images = pq.read_table(folder / "images.parquet")
        with np.load(folder / "overlaps.npz", allow_pickle=False) as arrays:
            edges = Edges(arrays["row"], arrays["col"], arrays["weight"])
            pairs = arrays["unknown_row"], arrays["unknown_col"]
    except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
        raise ReaderError(f"the plan {folder} cannot be read ({error}); run the job again") from None
    unknown = Edges(*pairs, np.zeros(len(pairs[0]), np.float32))
    graph = overlap_graph(images.num_rows, edges, unknown)
    return TrainingPlan([PluginRef(**ref) for ref in told["readers"]], images, graph)


def digest(plan: TrainingPlan) -> str:
    """16 hex digits over images, readers and overlaps: what makes two runs see the same batches."""
    hasher = xxhash.xxh3_64(json.dumps(plan.images.to_pydict(), sort_keys=True).encode())
    hasher.update(json.dumps([asdict(ref) for ref in plan.readers], sort_keys=True).encode())
    for array in (plan.graph.overlap.indices, plan.graph.overlap.data, plan.graph.unknown.indices):
        hasher.update(np.ascontiguousarray(array).view(np.uint8).data)
    return hasher.hexdigest()
