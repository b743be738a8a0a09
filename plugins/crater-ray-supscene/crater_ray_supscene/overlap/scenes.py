"""Scenes with overlaps out of published files: pairs_gt.csv, GL3D, 1DSfM."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crater_ray.errors import ReaderError
from crater_ray_supscene.overlap.files import (
    distinct,
    flag_of,
    image_uri,
    indices_of,
    lines_of,
    overlap_of,
    rows_of,
)
from crater_ray_supscene.overlap.graph import Edges

PAIRS, IMAGES = "pairs_gt.csv", "images"
UNDISTORTED = "undist_images"  # where GL3D's lists say that images are, wherever they lie
REGISTERED = ("reg_a", "reg_b")
_LISTED = re.compile(r"(.+?)(?:\s+0(?:\s+\d[\d.eE+-]*)?)?")  # Bundler's list: a name, 0, a focal length


@dataclass(frozen=True, slots=True)
class Scene:
    """Images of one place: uris below `root`, the overlaps listed, and the pairs nobody knows of."""

    name: str
    root: Path
    uris: Sequence[str]
    edges: Edges
    unknown: Edges


def pairs_scene(folder: Path, measure: str = "overlap") -> Scene:
    """A folder with images/ and pairs_gt.csv: every pair with its `measure`.

    A pair is not known where reg_a or reg_b is 0, false or empty, or where its measure is empty or NaN.
    Raises ReaderError, with the line, for a missing file or column, or a cell that does not hold.
    """
    path = folder / PAIRS
    known: list[tuple[str, str, float]] = []
    unknown: list[tuple[str, str, float]] = []
    for line, row in rows_of(path, ("image_a", "image_b", measure.casefold()), REGISTERED):
        first, second = (image_uri(path, line, row[key]) for key in ("image_a", "image_b"))
        registered = all([flag_of(path, line, key, row[key]) for key in REGISTERED if key in row])
        weight = overlap_of(path, line, measure, row[measure.casefold()]) if registered else None
        (unknown if weight is None else known).append((first, second, weight or 0.0))
    if not (known or unknown):
        raise ReaderError(f"{path} lists no pair")
    names = sorted({name for pair in (*known, *unknown) for name in pair[:2]})
    number = {name: place for place, name in enumerate(names)}
    ours = [[(number[a], number[b], weight) for a, b, weight in pairs] for pairs in (known, unknown)]
    return Scene(folder.name, folder / IMAGES, _below_images(folder, names), *map(_edges, ours))


def gl3d_scene(root: Path, scene: str, measure: str = "mesh_overlap", images: str = UNDISTORTED) -> Scene:
    """A scene of GL3D: data/<scene>/image_list.txt, geolabel/<measure>.txt of lines "i j ratio".

    measure: mesh_overlap or common_track. An image is what follows undist_images/ on its line, spaces and
    folders included. Raises ReaderError, with the line, for a missing file or a line that does not hold.
    """
    folder = root / "data" / scene
    listed, path = folder / "image_list.txt", folder / "geolabel" / f"{measure}.txt"
    below = (UNDISTORTED, images)
    uris = distinct(listed, [(line, image_uri(listed, line, text, below)) for line, text in lines_of(listed)])
    found = []
    for line, text in _pairs(path):
        first, second, rest = indices_of(path, line, text, len(uris), listed.name)
        weight = overlap_of(path, line, "the overlap", rest[0]) if rest else None
        if weight is None:
            raise ReaderError(f"{path}, line {line}: {text[:60]!r} is not 'image image overlap'")
        found.append((first, second, weight))
    return Scene(scene, folder / images, uris, _edges(found), _edges([]))


def gl3d_scenes(root: Path, listed: Path) -> list[str]:
    """The scenes of a list file, such as list/gl3d/imageset_test.txt, the 40 that results are told of.

    A path that is not there is tried below root. Raises ReaderError when neither is.
    """
    path = listed if listed.exists() else root / listed
    return distinct(path, lines_of(path))


def one_dsfm_scene(folder: Path) -> Scene:
    """A 1DSfM dataset: list.txt names the images, each line of EGs.txt verifies a pair (overlap 1).

    A name may hold spaces; Bundler's "0 focal" after it is passed over. Raises ReaderError, with the line,
    for a missing file or a line that does not hold.
    """
    listed, path = folder / "list.txt", folder / "EGs.txt"
    names = []
    for line, text in lines_of(listed):
        found = _LISTED.fullmatch(text)
        names.append((line, image_uri(listed, line, found[1] if found else text)))
    uris = distinct(listed, names)
    pairs = [(*indices_of(path, line, text, len(uris), listed.name)[:2], 1.0) for line, text in _pairs(path)]
    return Scene(folder.name, folder, uris, _edges(pairs), _edges([]))


def _pairs(path: Path) -> list[tuple[int, str]]:
    """The lines that are no comment. Raises ReaderError where there is none, as in a file cut short."""
    found = [(line, text) for line, text in lines_of(path) if not text.startswith("#")]
    if not found:
        raise ReaderError(f"{path} lists no pair")
    return found


def _below_images(folder: Path, names: Sequence[str]) -> list[str]:
    """Names below images/, which a file may have written before all of them."""
    prefix = f"{IMAGES}/"
    if all(name.startswith(prefix) for name in names) and not (folder / IMAGES / IMAGES).is_dir():
        return [name.removeprefix(prefix) for name in names]
    return list(names)


def _edges(found: Sequence[tuple[int, int, float]]) -> Edges:
    rows, columns, weights = zip(*found, strict=True) if found else ((), (), ())
    return Edges(np.array(rows, np.int64), np.array(columns, np.int64), np.array(weights, np.float32))
