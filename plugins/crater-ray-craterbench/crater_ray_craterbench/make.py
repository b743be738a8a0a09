"""A bench in the CraterBench-R layout out of a raster and a catalogue."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import xxhash

from crater_ray.errors import ReaderError
from crater_ray_craterbench.contact_sheet import bench_sheet
from crater_ray_craterbench.images import paths, write_views
from crater_ray_craterbench.layout import Entry, write_layout
from crater_ray_mosaic.catalogue import Box
from crater_ray_mosaic.mosaic import Mosaic
from crater_ray_mosaic.options import MosaicOptions
from crater_ray_mosaic.views import View, draw

PLAN = "metadata/source/plan.json"
REJECTED = "metadata/source/rejected.csv"
SHEET = "contact-sheet.png"


@dataclass(frozen=True, slots=True)
class BenchmarkOptions:
    """What a bench is made of."""

    options: MosaicOptions  # of the gallery; the queries take the same
    queries: int | None = None  # craters that are queried; None: all (inside test_box)
    test_box: Box | None = None  # queries only inside it, training only outside it
    format: Literal["jpg", "png"] = "jpg"


@dataclass(frozen=True, slots=True)
class Written:
    """What came of it."""

    gallery: int
    query: int
    train: int
    rejected: Mapping[str, int] = field(default_factory=dict)  # reason -> views


def write_bench(
    wanted: BenchmarkOptions,
    out: Path,
    *,
    threads: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Written:
    """Writes the bench below `out` and says how many views it holds; a second run keeps the images there are.

    Raises ReaderError when `out` holds another bench, or nothing could be rendered; StorageFull.
    """
    gallery = Mosaic(wanted.options.model_copy(update={"views": "gallery", "co_visible": False}))
    query = Mosaic(wanted.options.model_copy(update={"views": "query"}))
    _claim(wanted, gallery, out)
    shown = [view for row in range(len(gallery.chosen)) for view in gallery.views(row)]
    files = paths("gallery", shown, wanted.format)
    refused = write_views(gallery, shown, files, out, threads, progress)
    shown = [view for view in shown if view.id not in refused]
    queried = _queried(wanted, query, {view.crater for view in shown})
    asked = [view for row in queried for view in query.views(row)]
    files |= paths("query", asked, wanted.format)
    refused |= write_views(query, asked, files, out, threads, progress)
    asked = [view for view in asked if view.id not in refused]
    if not asked:
        raise ReaderError(
            f"nothing to query: {len(shown)} gallery views and no query view are left; "
            f"refused: {_reasons(refused) or 'none'}"
        )
    return _splits(wanted, out, gallery, query, shown, asked, files, refused)


def _splits(
    wanted: BenchmarkOptions,
    out: Path,
    gallery: Mosaic,
    query: Mosaic,
    shown: list[View],
    asked: list[View],
    files: Mapping[str, str],
    refused: Mapping[str, str],
) -> Written:
    """The layout's files, the list of refused views and the contact sheet."""
    craters = {view.crater for view in shown}
    relevant = {view.id: tuple(query.item(view).relevant) or (view.crater,) for view in asked}
    raw: dict[str, list[str]] = {}
    for view in asked:
        known = raw.setdefault(view.crater, [])
        known += [crater for crater in relevant[view.id] if crater not in known]
    train = training(wanted, gallery, shown, raw)
    entries = [Entry(files[view.id], view.crater, _kind(view)) for view in shown]
    queries = [
        Entry(
            files[view.id],
            view.crater,
            _kind(view),
            tuple(crater for crater in relevant[view.id] if crater in craters),
        )
        for view in asked
    ]
    _rejected(out / REJECTED, refused)
    bench_sheet(gallery, query, shown, asked, wanted.options.seed).save(out / SHEET)
    learnt = [entry for entry in entries if entry.crater_id in train]
    write_layout(
        out,
        gallery=entries,
        query=queries,
        train=learnt,
        relevance=raw,
        stats={
            "release_version": "crater_ray_mosaic_v1",
            "rejected": dict(_reasons(refused)),
            "catalogue_skipped": dict(gallery.catalogue.skipped),
            "craters_off_raster": int((~gallery.on_raster).sum()),
            "raster": gallery.raster.path.name,
            "stamp": gallery.stamp,
            "plan": _described(wanted),
        },
    )
    return Written(len(entries), len(queries), len(learnt), _reasons(refused))


def training(
    wanted: BenchmarkOptions, gallery: Mosaic, shown: Iterable[View], raw: Mapping[str, Iterable[str]]
) -> set[str]:
    """Gallery craters that no query touches: not queried, not relevant, no queried crater in their views.

    raw: queried crater -> every crater that its views show. With test_box, only craters outside it.
    """
    closure = set(raw).union(*raw.values()) if raw else set()
    beside = {view.crater for view in shown if not set(raw).isdisjoint(gallery.co_visible.ids(view.pose))}
    left = {view.crater for view in shown} - closure - beside
    if wanted.test_box:
        inside = gallery.chosen.inside(wanted.test_box)
        left -= {crater for crater, within in zip(gallery.chosen.ids, inside, strict=True) if within}
    return left


def _queried(wanted: BenchmarkOptions, query: Mosaic, craters: set[str]) -> list[int]:
    """Rows of the craters that get queries: chosen by hash among those that have gallery views."""
    c = query.chosen
    within = c.inside(wanted.test_box) if wanted.test_box else np.ones(len(c), bool)
    rows = [row for row in np.flatnonzero(within).tolist() if c.ids[row] in craters]
    if not rows:
        raise ReaderError(
            f"nothing to query: {len(craters)} craters have gallery views, and the test box "
            f"{list(wanted.test_box or ())} holds none of them"
        )
    return sorted(
        sorted(rows, key=lambda row: draw(wanted.options.seed, "queried", c.ids[row]))[: wanted.queries]
    )


def _claim(wanted: BenchmarkOptions, gallery: Mosaic, out: Path) -> None:
    """Writes the plan, or checks that it is the one already there, so that two benches never mix."""
    found = {"stamp": gallery.stamp, "catalogue_hash": _digest(gallery)}
    text = json.dumps(_described(wanted) | found, indent=1, sort_keys=True) + "\n"
    path = out / PLAN
    if path.exists():
        if path.read_text(encoding="utf-8") != text:
            raise ReaderError(
                f"{out} holds a bench of other options, raster or catalogue ({PLAN}); choose another folder"
            )
    elif out.exists() and any(out.iterdir()):
        raise ReaderError(f"{out} is not empty and holds no bench of this command; choose another folder")
    for side in ("gallery", "query"):
        (out / "images" / side).mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _described(wanted: BenchmarkOptions) -> dict[str, object]:
    """Options by value, files by name alone: a bench says nothing of the machine that made it."""
    options = wanted.options.model_dump(mode="json", exclude_defaults=True)
    for name in wanted.options.files() & set(options):
        options[name] = Path(options[name]).name
    box = list(wanted.test_box) if wanted.test_box else None
    return {"options": options, "queries": wanted.queries, "test_box": box, "format": wanted.format}


def _digest(gallery: Mosaic) -> str:
    c = gallery.chosen
    digest = xxhash.xxh3_64("|".join(c.ids).encode())
    for values in (c.lat, c.lon, c.diameter):
        digest.update(values.tobytes())
    return digest.hexdigest()


def _rejected(path: Path, refused: Mapping[str, str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("view_id", "reason"))
        rows.writerows(sorted(refused.items()))


def _reasons(refused: Mapping[str, str]) -> dict[str, int]:
    return dict(sorted(Counter(reason.partition(":")[0] for reason in refused.values()).items()))


def _kind(view: View) -> str:
    """2x of a gallery view, q1 of a query."""
    tail = view.id.removeprefix(f"{view.crater}_")
    return f"{tail[1:]}x" if tail.startswith("x") else tail
