"""Consumer `colmap`: neighbours -> pairs -> matches -> models -> a report, and the same for baselines."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from os import cpu_count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from crater_ray.errors import PluginError, ReaderError
from crater_ray.plugins import Index
from crater_ray_colmap import ColmapOptions, child, database, pairs, pictures, report
from crater_ray_colmap.pictures import Gallery
from crater_ray_colmap.stage import alone, key, once

if TYPE_CHECKING:
    import pyarrow.dataset as ds

RETRIEVED, EXHAUSTIVE, TREE = "retrieved", "exhaustive", "vocab_tree"
TREE_RANKS = 100  # that the tree is asked for: its cost does not depend on it


class Colmap:
    """out/report.md, report.json and report.png, beside a folder of databases and models for each method.

    Options: see the package's README.
    """

    def __init__(self, **options: Any) -> None:
        self.options = ColmapOptions(**options)

    def __call__(self, index: Index, neighbours: ds.Dataset, out: Path) -> Path:
        """The report's path. What is done is kept: the same call again goes on where one was cut.

        Raises UserError and ReaderError for images, pairs and cameras that COLMAP could not take, before it
        starts, and ColmapFailed when its process dies.
        """
        with alone(out) as lock:
            gallery = _gallery(self.options, index, out)
            run, names = Run(self.options, out, gallery, lock), gallery.names
            chosen = {RETRIEVED: pairs.retrieved(len(index), neighbours, self.options.top, names)}
            pairs.write(out / pairs.NAME, chosen[RETRIEVED])
            everything = (
                pairs.exhaustive(list(names.values())) if EXHAUSTIVE in self.options.baselines else []
            )
            features = run.features()
            told: dict[str, dict[str, Any]] = {}
            if TREE in self.options.baselines:
                told[TREE] = run.tree()
                chosen[TREE] = pairs.first_ranks(told[TREE]["ranks"], len(chosen[RETRIEVED]))
            if everything:  # last, since it takes the longest
                chosen[EXHAUSTIVE] = everything
            methods = [run.method(name, chosen[name], told.get(name, {})) for name in chosen]
            return report.write(out, methods, features, self.options, gallery)


@dataclass(frozen=True)
class Run:
    """The stages over one set of images. Each gives its result, now or when it was done before."""

    options: ColmapOptions
    out: Path
    gallery: Gallery
    lock: int

    @cached_property
    def groups(self) -> list[list[str]]:
        return pictures.groups(self.gallery.pictures, self.options.cameras)

    @cached_property
    def features_key(self) -> str:
        seen = [(picture.name, picture.size, picture.stamp) for picture in self.gallery.pictures]
        how = self.options.model_dump(include={"camera_model", "features", "image_size"})
        return key("features", _version(), str(self.gallery.folder), seen, self.groups, how)

    def features(self) -> dict[str, Any]:
        """SIFT of every image in out/features/database.db."""

        def work(folder: Path) -> Mapping[str, Any]:
            how = self.options.model_dump(include={"camera_model", "features", "image_size"})
            task = {
                **how,
                "database": folder / database.NAME,
                "images": self.gallery.folder,
                "groups": self.groups,
            }
            answer = self._colmap("features", task, folder)
            if unread := answer["unread"]:
                raise ReaderError(
                    f"COLMAP reads {answer['images'] - len(unread)} of {answer['images']} images, and not "
                    f"{pictures.some(unread)}; leave [consume.colmap] images out to have all of them written "
                    f"from the index. COLMAP's own words: {folder / child.LOG}"
                )
            return answer

        return once(self.out / "features", self.features_key, work)

    def tree(self) -> dict[str, Any]:
        """Every image's ranking by COLMAP's vocabulary tree, learnt from these images."""
        asked = {"words": self.options.words, "neighbours": min(TREE_RANKS, len(self.gallery.pictures) - 1)}

        def work(folder: Path) -> Mapping[str, Any]:
            task = {**asked, "database": self.out / "features" / database.NAME, "tree": folder / "tree.bin"}
            answer = self._colmap("tree", task, folder)
            ranked = answer["ranks"].items()
            lines = [(query, rank, hit) for query, hits in ranked for rank, hit in enumerate(hits, 1)]
            pairs.write(folder / "ranks.txt", lines)
            return answer

        return once(self.out / TREE / "tree", key("tree", self.features_key, asked, self.options.seed), work)

    def method(self, name: str, chosen: pairs.Pairs, told: Mapping[str, Any]) -> report.Method:
        """One way of choosing pairs, matched, verified and mapped in out/<name>/."""
        matches_key = key("matches", self.features_key, chosen, self.options.seed)

        def match(folder: Path) -> Mapping[str, Any]:
            here = folder / database.NAME
            if not here.exists():  # otherwise cut while matching: COLMAP passes over the pairs it has
                database.copy(self.out / "features" / database.NAME, here)
            task = {"database": here, "pairs": pairs.write(folder / "pairs.txt", chosen)}
            answer = self._colmap("matches", task, folder)
            if answer["compared"] != len(chosen):
                raise child.ColmapFailed(
                    f"COLMAP compared {answer['compared']} of {len(chosen)} pairs of {task['pairs']}; "
                    f"its own words: {folder / child.LOG}"
                )
            pairs.write(folder / "verified.txt", answer["inliers"])
            return answer

        def build(folder: Path) -> Mapping[str, Any]:
            shutil.rmtree(folder / "sparse", ignore_errors=True)  # mapping cannot go on from its middle
            (folder / "sparse").mkdir()
            task = {
                "database": self.out / name / "matches" / database.NAME,
                "images": self.gallery.folder,
                "out": folder / "sparse",
                "shapes": folder / report.SHAPES,
                "min_model_size": self.options.min_model_size,
            }
            return self._colmap("model", task, folder)

        matched = once(self.out / name / "matches", matches_key, match)
        mapped: dict[str, Any] | None = None
        if self.options.mapping:
            model_key = key("model", matches_key, self.options.min_model_size)
            mapped = once(self.out / name / "model", model_key, build)
        return report.Method(name, len(chosen), matched, mapped, told)

    def _colmap(self, do: str, task: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        threads = self.options.threads or cpu_count() or 1
        shared = {"threads": threads, "seed": self.options.seed}
        return child.run(do, {**shared, **task}, folder, lock=self.lock, console=Console(stderr=True))


def _gallery(options: ColmapOptions, index: Index, out: Path) -> Gallery:
    """A checked file of every item: the reader's own, linked or converted, or written from the index."""
    folder = out / "images"
    if options.images is not None:
        images = options.images
        files = pictures.found(index.ids, index.items(["uri"])["uri"].to_pylist(), images)
        if pictures.usable(files):
            return Gallery(images, files)
        made_of = key("linked", str(images), [(file.id, file.name, file.stamp) for file in files])
        once(folder, made_of, lambda here: {"files": len(pictures.gathered(index, files, images, here))})
        return Gallery(folder, pictures.gathered(index, files, images, folder))
    made_of = key("images", list(index.ids), index.items(["stamp"])["stamp"].to_pylist())
    once(folder, made_of, lambda here: {"written": len(pictures.written(index, here))})
    return Gallery(folder, pictures.written(index, folder))  # those that somebody removed since, again


def _version() -> str:
    try:
        return metadata.version("pycolmap")
    except metadata.PackageNotFoundError:
        raise PluginError("consumer 'colmap' needs pycolmap; try: pip install pycolmap") from None
