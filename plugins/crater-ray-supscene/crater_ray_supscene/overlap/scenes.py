"""Scenes with overlaps out of published files: pairs_gt.csv, GL3D, 1DSfM."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from crater_ray.errors import ReaderError
from crater_ray_supscene.overlap.graph import Edges

PAIRS = "pairs_gt.csv"


@dataclass(frozen=True, slots=True)
class Scene:
    """Images of one place: uris below `root`, the overlaps listed, and the pairs nobody knows of."""

    name: str
    root: Path
    uris: Sequence[str]
    edges: Edges
    unknown: Edges


def pairs_scene(folder: Path, measure: str = "overlap") -> Scene:
    """A folder with images/ and pairs_gt.csv: every pair with its `measure`; reg_a or reg_b 0: not known.

    Raises ReaderError for a missing file or column, or a cell that is no number.
    """
    path = folder / PAIRS
    rows = _csv(path, ("image_a", "image_b", measure))
    names = sorted({row[key] for row in rows for key in ("image_a", "image_b")})
    number = {name: place for place, name in enumerate(names)}
    known: list[tuple[int, int, float]] = []
    unknown: list[tuple[int, int, float]] = []
    for line, row in enumerate(rows, 2):
        pair = (number[row["image_a"]], number[row["image_b"]])
        try:
            weight = float(row[measure])
        except ValueError:
            raise ReaderError(f"{path}, line {line}: {measure} is {row[measure]!r}, not a number") from None
        registered = row.get("reg_a", "1") != "0" and row.get("reg_b", "1") != "0"
        (known if registered else unknown).append((*pair, weight))
    return Scene(folder.name, folder / "images", names, _edges(known), _edges(unknown))


def gl3d_scene(root: Path, scene: str, measure: str = "mesh_overlap", images: str = "undist_images") -> Scene:
    """A scene of GL3D: data/<scene>/image_list.txt, geolabel/<measure>.txt of lines "i j ratio".

    measure: mesh_overlap or common_track. Raises ReaderError for a missing file or a line that is malformed.
    """
    folder = root / "data" / scene
    uris = [PurePosixPath(line.split()[0]).name for line in _lines(folder / "image_list.txt")]
    path = folder / "geolabel" / f"{measure}.txt"
    found = [_numbers(path, line, text) for line, text in enumerate(_lines(path), 1)]
    beyond = next((entry for entry in found if max(entry[:2]) >= len(uris)), None)
    if beyond is not None:
        raise ReaderError(f"{path} names image {max(beyond[:2])}, but image_list.txt has {len(uris)}")
    return Scene(scene, folder / images, uris, _edges(found), _edges([]))


def gl3d_scenes(root: Path, listed: Path) -> list[str]:
    """The scenes of a list file, such as list/gl3d/imageset_test.txt, the 40 that results are told of.

    A path that is not there is tried below root. Raises ReaderError when neither is.
    """
    path = listed if listed.exists() else root / listed
    return [line.split()[0] for line in _lines(path)]


def one_dsfm_scene(folder: Path) -> Scene:
    """A 1DSfM dataset: list.txt names the images, each line of EGs.txt verifies a pair (overlap 1).

    Raises ReaderError for a missing file or a malformed line.
    """
    uris = [line.split()[0] for line in _lines(folder / "list.txt")]
    path = folder / "EGs.txt"
    pairs = [
        (*_numbers(path, line, text, weighted=False)[:2], 1.0) for line, text in enumerate(_lines(path), 1)
    ]
    beyond = next((pair for pair in pairs if max(pair[:2]) >= len(uris)), None)
    if beyond is not None:
        raise ReaderError(f"{path} names image {max(beyond[:2])}, but list.txt has {len(uris)}")
    return Scene(folder.name, folder, uris, _edges(pairs), _edges([]))


def _edges(found: Sequence[tuple[int, int, float]]) -> Edges:
    rows, columns, weights = zip(*found, strict=True) if found else ((), (), ())
    return Edges(np.array(rows, np.int64), np.array(columns, np.int64), np.array(weights, np.float32))


def _numbers(path: Path, line: int, text: str, weighted: bool = True) -> tuple[int, int, float]:
    words = text.split()
    try:
        first, second = int(words[0]), int(words[1])
        weight = float(words[2]) if weighted else 1.0
        if min(first, second) >= 0 and 0 <= weight <= 1:
            return first, second, weight
    except (IndexError, ValueError):
        pass
    raise ReaderError(f"{path}, line {line}: {text[:60]!r} is not 'image image overlap'")


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise ReaderError(f"cannot read {path}: {error.strerror or error}") from None


def _csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except OSError as error:
        raise ReaderError(f"cannot read {path}: {error.strerror or error}") from None
    header = reader.fieldnames or ()
    missing = [name for name in columns if name not in header]
    if missing:
        raise ReaderError(f"{path} has no column {missing[0]!r}; it has {', '.join(header)}")
    if not rows:
        raise ReaderError(f"{path} lists no pair")
    return rows
