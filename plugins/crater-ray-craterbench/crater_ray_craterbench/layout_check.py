"""What is wrong with a folder in the CraterBench-R layout; `crater_ray_craterbench.layout` owns its keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from PIL import Image

from crater_ray.errors import ReaderError
from crater_ray_craterbench.layout import (
    STATS,
    TEST,
    TRAIN,
    Entry,
    Split,
    counts,
    outside,
    read_json,
    read_layout,
)


def problems(root: Path) -> list[str]:
    """One line a problem: files, images (headers only), relevance, the train split's closure, statistics."""
    if not root.is_dir():
        return [f"{root} is not a folder"]
    found: list[str] = []
    splits: dict[Split, list[Entry]] = {}
    names: tuple[Split, ...] = ("gallery", "query", "train")
    for split in names:
        try:
            splits[split] = read_layout(root, split)
        except ReaderError as error:
            if error.message not in found:
                found.append(error.message)
    for split, entries in splits.items():
        found += _paths(root, split, entries)
    if "gallery" in splits and "query" in splits:
        found += _relevance(splits["gallery"], splits["query"])
        found += _between(splits["gallery"], splits["query"])
        if "train" in splits:
            found += _closure(splits["query"], splits["train"])
            found += _stats(root, splits)
    return found


def _paths(root: Path, split: Split, entries: Sequence[Entry]) -> Iterator[str]:
    name = TRAIN if split == "train" else TEST
    if not entries and split != "train":
        yield f"{name}: the {split} split is empty"
    seen: set[str] = set()
    for entry in entries:
        where = f"{name}, {split} {entry.path!r}"
        if entry.path in seen:
            yield f"{where} is listed twice"
            continue
        seen.add(entry.path)
        if outside(entry.path):
            yield f"{where} leads out of the folder; write it relative, as images/gallery/x.jpg"
        elif (reason := _unreadable(root / entry.path)) is not None:
            yield f"{where} {reason}"


def _unreadable(path: Path) -> str | None:
    """Why the header cannot be read; the pixels are left alone."""
    try:
        if path.stat().st_size == 0:
            return "is an empty file"
        with Image.open(path) as image:
            if min(image.size) < 1:
                return "has no pixels"
    except FileNotFoundError:
        return "does not exist; unpack images.zip or write it again"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return "has too many pixels to be a view"
    except (OSError, SyntaxError, ValueError) as error:
        reason = type(error).__name__ if str(path) in str(error) else str(error)
        return f"is not an image that can be read ({reason})"
    return None


def _relevance(gallery: Sequence[Entry], query: Sequence[Entry]) -> Iterator[str]:
    craters = {entry.crater_id for entry in gallery}
    told: set[str] = set()
    for entry in query:
        unknown = [one for one in entry.relevant if one not in craters]
        if not craters.intersection(entry.relevant):
            line = f"{TEST}: query crater {entry.crater_id!r} has no relevant crater in the gallery"
        elif unknown:
            line = f"{TEST}: query crater {entry.crater_id!r} names {unknown[0]!r}, not in the gallery"
        else:
            continue
        if line not in told:
            told.add(line)
            yield line


def _between(gallery: Sequence[Entry], query: Sequence[Entry]) -> Iterator[str]:
    both = {entry.path for entry in gallery} & {entry.path for entry in query}
    for path in sorted(both):
        yield f"{TEST}: {path!r} is in the gallery and among the queries"


def _closure(query: Sequence[Entry], train: Sequence[Entry]) -> Iterator[str]:
    """No crater of a query, nor one relevant to it, may be trained on."""
    closed = {entry.crater_id for entry in query} | {one for entry in query for one in entry.relevant}
    for crater in sorted(closed & {entry.crater_id for entry in train}):
        yield f"{TRAIN}: crater {crater!r} is relevant to a test query; take it out of the train split"


def _stats(root: Path, splits: Mapping[Split, Sequence[Entry]]) -> Iterator[str]:
    try:
        content = read_json(root, STATS)
    except ReaderError as error:
        yield error.message
        return
    inner = content.get("official", content) if isinstance(content, dict) else None
    if not isinstance(inner, dict):
        yield f"{STATS} must hold an object of counts"
        return
    for key, counted in counts(splits["gallery"], splits["query"], splits["train"]).items():
        if key in inner and inner[key] != counted:
            yield f"{STATS}: {key} is {inner[key]!r}, but the splits hold {counted}"
