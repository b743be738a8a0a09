"""The plan of a run: every image of training and of what is held out, who reads it, and who overlaps whom.

<out>/plan/  images.parquet · overlaps.npz · plan.json, last; made once, read by every worker
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from crater_ray.errors import ConfigError, ReaderError
from crater_ray.plugins import Ref, registry
from crater_ray.types import Item
from crater_ray_supscene.overlap.footprints import footprint_edges, meeting
from crater_ray_supscene.overlap.graph import Edges, OverlapGraph, overlap_graph
from crater_ray_supscene.overlap.scenes import Scene, gl3d_scene, gl3d_scenes, one_dsfm_scene, pairs_scene
from crater_ray_supscene.training.job import ScenesTable, TrainJob

Integers = NDArray[np.int64]
TRAIN, HELD, GALLERY, QUERY = "train", "held", "gallery", "query:"
FILE = "plan.json"


@dataclass(frozen=True)
class Plan:
    """N images by row, and their overlaps; `unit` is what a subgraph is drawn from, by row."""

    readers: Sequence[Ref]
    images: pa.Table  # id, reader, uri, stamp, group, unit, role
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

    def labels(self) -> tuple[Integers, int]:
        """(N,) the class of each image, 0..C-1 for training's groups, -1 for the rest; and C."""
        groups = self.images["group"].to_pylist()
        names: dict[str, int] = {}
        labels = np.full(len(self), -1, np.int64)
        for row in self.rows(TRAIN).tolist():
            labels[row] = names.setdefault(groups[row], len(names))
        return labels, len(names)


@dataclass
class _Making:
    """Images and edges as they are collected."""

    readers: list[Ref] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(
        default_factory=lambda: {key: [] for key in ("id", "reader", "uri", "stamp", "group", "unit", "role")}
    )
    edges: list[Edges] = field(default_factory=list)
    unknown: list[Edges] = field(default_factory=list)
    places: dict[int, tuple[float, float, float, float]] = field(default_factory=dict)
    groups: dict[str, dict[str, list[int]]] = field(default_factory=dict)  # role, group: rows, of any reader

    def __len__(self) -> int:
        return len(self.columns["id"])

    def reader(self, ref: Ref) -> int:
        if ref not in self.readers:
            self.readers.append(ref)
        return self.readers.index(ref)

    def add(self, **values: Any) -> int:
        for key, value in values.items():
            self.columns[key].append(value)
        return len(self) - 1


def make_plan(job: TrainJob) -> Plan:
    """The plan of a job. Raises ReaderError for files that do not hold, ConfigError without images."""
    making = _Making()
    for number, table in enumerate(job.scenes):
        _scenes(making, job, table, TRAIN, f"scenes.{number}")
    train = len(making)
    held = job.held_out
    for number, table in enumerate(held.scenes):
        _scenes(making, job, table, HELD, f"held_out.scenes.{number}")
    if held.gallery is not None:
        sets = {GALLERY: held.gallery, **{f"{QUERY}{name}": table for name, table in held.queries.items()}}
        for role, plugin in sets.items():
            ref = job.ref("reader", plugin, f"held_out.{role.replace(':', '.')}")
            for item in _items(ref):
                row = making.add(**_of_item(item, making.reader(ref)), unit="", role=role)
                _place(making, row, item, held.radius_km)
    drop = _touching(making, train) if held.disjoint else set()
    return _finished(making, job, drop, train)


def _scenes(making: _Making, job: TrainJob, table: ScenesTable, role: str, where: str) -> None:
    if table.reader is not None:
        _of_reader(making, job, table, role, where)
        return
    for scene in _files(table):
        if len(scene.uris) < table.least_images:
            continue
        ref = registry().ref("reader", "folder", {"root": str(scene.root)}, where=f"[{where}]")
        first, reader = len(making), making.reader(ref)
        for uri in scene.uris:
            name = f"{scene.name}/{uri}"
            making.add(id=name, reader=reader, uri=uri, stamp="", group=name, unit=scene.name, role=role)
        known = overlap_graph(len(scene.uris), scene.edges, how=table.symmetrise).overlap.tocoo()
        making.edges.append(
            _moved(Edges(known.row.astype(np.int64), known.col.astype(np.int64), known.data), first)
        )
        making.unknown.append(_moved(scene.unknown, first))


def _files(table: ScenesTable) -> Iterable[Scene]:
    root = table.root or Path()
    if table.source == "gl3d":
        names = table.names or tuple(gl3d_scenes(root, table.listed or Path()))
        for name in names:
            yield gl3d_scene(root, name, table.measure or "mesh_overlap", table.images)
        return
    for folder in [root / name for name in table.names] or [root]:
        yield (
            one_dsfm_scene(folder)
            if table.source == "one_dsfm"
            else pairs_scene(folder, table.measure or "overlap")
        )


def _of_reader(making: _Making, job: TrainJob, table: ScenesTable, role: str, where: str) -> None:
    assert table.reader is not None  # the caller looked
    ref = job.ref("reader", table.reader, f"{where}.reader")
    draw = table.draw or ("group" if table.overlap == "group" else "scene")
    first = len(making)
    groups = making.groups.setdefault(role, {})
    for item in _items(ref):
        values = _of_item(item, making.reader(ref))
        known = groups.setdefault(item.group, []) if table.overlap == "group" else []
        unit = where
        if draw == "group":  # that of the group's first reader: views of one crater by several are one unit
            unit = making.columns["unit"][known[0]] if known else f"{where}/{item.group}"
        row = making.add(**values, unit=unit, role=role)
        known.append(row)
        _place(making, row, item, table.radius_km)
    if table.overlap == "group":
        pairs = [(a, b) for rows in groups.values() for a in rows for b in rows if a < b and b >= first]
        rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
        making.edges.append(Edges(rows, columns, np.ones(len(rows), np.float32)))
        return
    missing = next((row for row in range(first, len(making)) if row not in making.places), None)
    if missing is not None:
        raise ReaderError(
            f"[{where}] overlap = 'footprint' needs the columns lat, lon and half_width_km, which reader "
            f"{ref.name!r} does not give for {making.columns['id'][missing]!r}; use overlap = 'group'"
        )
    lat, lon, half, turn = np.array([making.places[row] for row in range(first, len(making))]).T
    try:
        making.edges.append(_moved(footprint_edges(lat, lon, half, turn), first))
    except ValueError as error:
        raise ReaderError(f"[{where}] overlap = 'footprint': {error}; lower max_diameter_km") from None


def _moved(edges: Edges, first: int) -> Edges:
    """The edges of a scene whose images start at row `first` of the plan."""
    return Edges(edges.rows + first, edges.columns + first, edges.weights)


def _items(ref: Ref) -> list[Item]:
    reader = registry().build(ref)
    return [item for part in reader.parts() for item in reader.read(part)]


def _of_item(item: Item, reader: int) -> dict[str, Any]:
    return {"id": item.id, "reader": reader, "uri": item.uri, "stamp": item.stamp, "group": item.group}


def _place(making: _Making, row: int, item: Item, radius_km: float) -> None:
    """Where a view lies, if its reader says so: lat, lon, half width in radii, the uri's rot=."""
    lat, lon, half = (item.columns.get(key) for key in ("lat", "lon", "half_width_km"))
    if isinstance(lat, float) and isinstance(lon, float) and isinstance(half, float):
        rotation = float(parse_qs(item.uri).get("rot", ["0"])[0])
        making.places[row] = (lat, lon, half / radius_km, rotation)


def _touching(making: _Making, train: int) -> set[int]:
    """Training rows whose bounding circle meets that of a view held out."""
    ours = [row for row in making.places if row < train]
    theirs = [row for row in making.places if row >= train]
    if not ours or not theirs:
        return set()
    mine, other = (np.array([making.places[row][:3] for row in rows]) for rows in (ours, theirs))
    return {ours[at] for at in np.flatnonzero(meeting(mine, other)).tolist()}


def _finished(making: _Making, job: TrainJob, drop: set[int], train: int) -> Plan:
    keep = np.array([row not in drop for row in range(len(making))], bool)
    if not keep[:train].any():
        raise ConfigError(
            f"{job.path.name}: nothing is left to train on ({len(drop)} views touch what is held out); "
            "choose other [[scenes]], or held_out.disjoint = false"
        )
    number = np.cumsum(keep) - 1
    images = pa.table(making.columns).filter(pa.array(keep))
    graph = overlap_graph(
        int(keep.sum()), _kept(making.edges, keep, number), _kept(making.unknown, keep, number)
    )
    return Plan(tuple(making.readers), images, graph)


def _kept(edges: Sequence[Edges], keep: NDArray[np.bool_], number: NDArray[Any]) -> Edges:
    rows = np.concatenate([e.rows for e in edges] or [np.zeros(0, np.int64)])
    columns = np.concatenate([e.columns for e in edges] or [np.zeros(0, np.int64)])
    weights = np.concatenate([e.weights for e in edges] or [np.zeros(0, np.float32)])
    real = keep[rows] & keep[columns] if len(rows) else np.zeros(0, bool)
    return Edges(number[rows[real]], number[columns[real]], weights[real])


def write_plan(plan: Plan, folder: Path) -> str:
    """Writes the plan, plan.json last; its digest."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(plan.images, folder / "images.parquet")
    overlap, unknown = plan.graph.overlap.tocoo(), plan.graph.unknown.tocoo()
    arrays = {
        "row": overlap.row.astype(np.int64),
        "col": overlap.col.astype(np.int64),
        "weight": overlap.data,
        "unknown_row": unknown.row.astype(np.int64),
        "unknown_col": unknown.col.astype(np.int64),
    }
    np.savez(folder / "overlaps.npz", allow_pickle=False, **arrays)
    told = {"readers": [asdict(ref) for ref in plan.readers], "digest": digest(plan)}
    partial = folder / f"{FILE}.partial"
    partial.write_text(json.dumps(told, indent=1), encoding="utf-8")
    partial.replace(folder / FILE)
    return str(told["digest"])


def read_plan(folder: Path) -> Plan:
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
    return Plan([Ref(**ref) for ref in told["readers"]], images, graph)


def digest(plan: Plan) -> str:
    """16 hex digits over images, readers and overlaps: what makes two runs see the same batches."""
    hasher = xxhash.xxh3_64(json.dumps(plan.images.to_pydict(), sort_keys=True).encode())
    hasher.update(json.dumps([asdict(ref) for ref in plan.readers], sort_keys=True).encode())
    for array in (plan.graph.overlap.indices, plan.graph.overlap.data, plan.graph.unknown.indices):
        hasher.update(np.ascontiguousarray(array).view(np.uint8).data)
    return hasher.hexdigest()
