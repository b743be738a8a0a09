"""Images and overlaps as they are collected for a plan, from scenes of files and from readers."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pyarrow as pa

from crater_ray.errors import ReaderError
from crater_ray.plugins import PluginRef, registry
from crater_ray.types import Item
from crater_ray_supscene.overlap.files import stamp
from crater_ray_supscene.overlap.footprints import footprint_edges, meeting
from crater_ray_supscene.overlap.graph import Edges, overlap_graph
from crater_ray_supscene.overlap.scenes import Scene, gl3d_scene, gl3d_scenes, one_dsfm_scene, pairs_scene
from crater_ray_supscene.training.job import ScenesTable, TrainJob

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("reader", pa.int64()),
        ("uri", pa.string()),
        ("stamp", pa.string()),
        ("group", pa.string()),
        ("relevant", pa.list_(pa.string())),  # of a query: groups, sorted; none: its own
        ("unit", pa.string()),
        ("role", pa.string()),
    ]
)


@dataclass
class Listing:
    """Images and edges as they are collected."""

    readers: list[PluginRef] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=lambda: {key: [] for key in SCHEMA.names})
    edges: list[Edges] = field(default_factory=list)
    unknown: list[Edges] = field(default_factory=list)
    places: dict[int, tuple[float, float, float, float]] = field(default_factory=dict)
    groups: dict[str, dict[str, list[int]]] = field(default_factory=dict)  # role, group: rows, of any reader
    gains: list[tuple[str, int, str, float]] = field(default_factory=list)  # role, row, relevant group, gain
    files: dict[str, int] = field(default_factory=dict)  # of scenes: path of an image, its row
    trained_on: set[int] = field(default_factory=set)  # rows of training whose file is held out, too

    def __len__(self) -> int:
        return len(self.columns["id"])

    def reader(self, ref: PluginRef) -> int:
        if ref not in self.readers:
            self.readers.append(ref)
        return self.readers.index(ref)

    def add(self, **values: Any) -> int:
        for key, value in values.items():
            self.columns[key].append(value)
        return len(self) - 1


def add_scenes(making: Listing, job: TrainJob, table: ScenesTable, role: str, where: str) -> None:
    if table.reader is not None:
        _of_reader(making, job, table, role, where)
        return
    for number, scene in enumerate(_files(table)):
        if len(scene.uris) < table.least_images:
            continue
        ref = registry().ref("reader", "folder", {"root": str(scene.root)}, where=f"[{where}]")
        first, reader, unit = len(making), making.reader(ref), f"{where}/{number}"
        for uri in scene.uris:
            _of_one_scene(making, scene, uri, role, where)
            making.add(
                id=f"{scene.name}/{uri}",
                reader=reader,
                uri=uri,
                stamp=stamp(scene.root, uri),
                group=f"{unit}/{uri}",
                relevant=[],
                unit=unit,
                role=role,
            )
        known = overlap_graph(len(scene.uris), scene.edges, how=table.symmetrise).overlap.tocoo()
        making.edges.append(
            _moved(Edges(known.row.astype(np.int64), known.col.astype(np.int64), known.data), first)
        )
        making.unknown.append(_moved(scene.unknown, first))


def _of_one_scene(making: Listing, scene: Scene, uri: str, role: str, where: str) -> None:
    """Notes the file of the next row.

    Raises ReaderError where the role has it already: an image would be a negative of itself.
    """
    path = os.path.normpath(os.path.join(os.path.realpath(scene.root), uri))
    before = making.files.setdefault(path, len(making))
    if before == len(making):
        return
    if making.columns["role"][before] == role:
        raise ReaderError(
            f"[{where}] {path} is in two scenes, as {making.columns['id'][before]} and as "
            f"{scene.name}/{uri}; name each scene once"
        )
    making.trained_on.add(before)


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


def _of_reader(making: Listing, job: TrainJob, table: ScenesTable, role: str, where: str) -> None:
    assert table.reader is not None  # the caller looked
    ref = job.ref("reader", table.reader, f"{where}.reader")
    draw = table.draw or ("group" if table.overlap == "group" else "scene")
    first = len(making)
    groups = making.groups.setdefault(role, {})
    for item in items_of(ref):
        values = of_item(item, making.reader(ref))
        known = groups.setdefault(item.group, []) if table.overlap == "group" else []
        unit = where
        if draw == "group":  # that of the group's first reader: views of one crater by several are one unit
            unit = making.columns["unit"][known[0]] if known else f"{where}/{item.group}"
        row = making.add(**values, unit=unit, role=role)
        known.append(row)
        if table.overlap == "group":
            making.gains += [(role, row, group, gain) for group, gain in item.relevant.items()]
        place(making, row, item, table.radius_km)
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


def relevant_edges(making: Listing) -> Edges:
    """Of each view to other groups that its reader names as relevant, such as craters visible in it.

    The weight is the gain, at most 1. Groups may be listed later and by another reader, so all must be known.
    """
    found = [
        (row, other, min(gain, 1.0))
        for role, row, group, gain in making.gains
        if gain > 0 and group != making.columns["group"][row]
        for other in making.groups[role].get(group, [])
    ]
    rows, columns, weights = (np.array([edge[at] for edge in found]) for at in range(3))
    return Edges(rows.astype(np.int64), columns.astype(np.int64), weights.astype(np.float32))


def _moved(edges: Edges, first: int) -> Edges:
    """The edges of a scene whose images start at row `first` of the plan."""
    return Edges(edges.rows + first, edges.columns + first, edges.weights)


def items_of(ref: PluginRef) -> list[Item]:
    reader = registry().build(ref)
    return [item for part in reader.parts() for item in reader.read(part)]


def of_item(item: Item, reader: int) -> dict[str, Any]:
    gains = item.relevant.items()
    return {
        "id": item.id,
        "reader": reader,
        "uri": item.uri,
        "stamp": item.stamp,
        "group": item.group,
        "relevant": sorted(group for group, gain in gains if gain > 0),
    }


def place(making: Listing, row: int, item: Item, radius_km: float) -> None:
    """Where a view lies, if its reader says so: lat, lon, half width in radii, the uri's rot=."""
    given = [item.columns.get(key) for key in ("lat", "lon", "half_width_km")]
    numbers = [float(value) for value in given if isinstance(value, int | float) and math.isfinite(value)]
    if len(numbers) == len(given):
        lat, lon, half = numbers
        rotation = float(parse_qs(item.uri).get("rot", ["0"])[0])
        making.places[row] = (lat, lon, half / radius_km, rotation)


def touching(making: Listing, train: int) -> set[int]:
    """Training rows whose bounding circle meets that of a view held out."""
    ours = [row for row in making.places if row < train]
    theirs = [row for row in making.places if row >= train]
    if not ours or not theirs:
        return set()
    mine, other = (np.array([making.places[row][:3] for row in rows]) for rows in (ours, theirs))
    return {ours[at] for at in np.flatnonzero(meeting(mine, other)).tolist()}
