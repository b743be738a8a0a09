"""Photo scenes in one gallery: which pairs retrieval finds, and what COLMAP makes of them.

    python benchmarks/colmap.py retrieval [--keep FOLDER]   # neighbours against pairs_gt.csv's overlaps
    python benchmarks/colmap.py models [--keep FOLDER]       # models of these pairs, COLMAP's own, all

Both read what is in FOLDER and do what is missing there. What matching all pairs gives stands in each scene's
stats.json; --exhaustive does it again, over all scenes at once. A pair overlaps from 0.25 of the shared
points on; one of an image that the reference did not register is left out of every ranking: nobody knows it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from table import Report, arguments, show

from crater_ray.bench.metrics import difference_interval
from crater_ray.config import Job, NeighboursTable, load_job
from crater_ray.jobs import consume, index, neighbours
from crater_ray.jobs.cluster import cluster
from crater_ray_supscene.metrics import hit_rate_at, map_at, ndcg_at, ranking, recall_at
from crater_ray_supscene.overlap.scenes import pairs_scene

HERE = Path(__file__).resolve().parent
SFM = Path(os.environ.get("CRATER_RAY_DATA", HERE.parents[1] / "shared" / "data")) / "sfm"
SCENES = ("caliterra", "copr", "boruszyn")
POSITIVE, CUTS, TOP = 0.25, (5, 10, 25), 5
DINO, SIFT = 'name = "dinov2_offline"\ncache = "tokens"', 'name = "sift"\ngrid = 24'
BEST = "SIFT, one of each of 24 × 24 cells, whitened"
TREE = "COLMAP's vocabulary tree"
SPREAD = 'name = "whitened_tokens"\nof_options = { k = 64, seeds = "farthest" }'
WAYS = {  # of the index: its [rerank] table
    "cls": 'name = "cls"',
    "mean": 'name = "mean"',
    "gem": 'name = "gem"',
    "cls whitened": 'name = "whitened"\nof = "cls"\ndim = 128',
    "VLAD, 32 words": 'name = "vlad"',
    "instance tokens, K = 64": 'name = "instance_tokens"\nk = 64',
    "whitened tokens, farthest, K = 64": SPREAD,
    "SIFT, one of each of 16 × 16 cells": 'name = "all"',
    "SIFT, one of each of 16 × 16 cells, whitened": 'name = "whitened_tokens"\nof = "all"',
    "SIFT, one of each of 24 × 24 cells": 'name = "all"',
    BEST: 'name = "whitened_tokens"\nof = "all"',
}
RANKS, TREE_RANKS = "all.parquet", "vocab_tree/tree/ranks.txt"
SLUG = str.maketrans({" ": "_", ",": None, "=": None, "×": "x"})
JOB = """
out = "{out}"
[reader]
name = "folder"
root = "{root}"
pattern = "*/images/*"
[backbone]
{backbone}
[shortlist]
name = "mean"
[rerank]
{rerank}
[neighbours]
top = {top}
mode = "exact"
[consume.colmap]
images = "{root}"
top = {top}
features = 2048
baselines = {baselines}
threads = {threads}
[cluster]
threads = {threads}
"""


class Truth:
    """The overlaps of all scenes as one (N, N) matrix over names, and the pairs that are no answer."""

    def __init__(self) -> None:
        scenes = [pairs_scene(SFM / name) for name in SCENES]
        self.names = [f"{scene.name}/images/{uri}" for scene in scenes for uri in scene.uris]
        self.row = {name: row for row, name in enumerate(self.names)}
        self.scene = np.repeat(np.arange(len(scenes)), [len(scene.uris) for scene in scenes])
        self.overlap = np.zeros((len(self.names),) * 2, np.float32)
        self.excluded = np.eye(len(self.names), dtype=bool)
        for scene in scenes:
            rows = np.array([self.row[f"{scene.name}/images/{uri}"] for uri in scene.uris])
            for edges, values, matrix in (
                (scene.edges, scene.edges.weights, self.overlap),
                (scene.unknown, True, self.excluded),
            ):
                matrix[rows[edges.rows], rows[edges.columns]] = values
                matrix[rows[edges.columns], rows[edges.rows]] = values
        self.relevant = (self.overlap >= POSITIVE) & ~self.excluded

    def order(self, ranks: Iterable[tuple[str, int, str]]) -> Any:
        """(N, N) columns, best first, of (query, rank from 1, hit); what is not listed comes last, as -1."""
        scores = np.full(self.overlap.shape, -np.inf)
        for query, rank, hit in ranks:
            scores[self.row[query], self.row[hit]] = -rank
        return ranking(scores, self.excluded | np.isneginf(scores))


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("what", choices=["retrieval", "models"])
    parser.add_argument("--keep", type=Path, help="keep indexes and databases here, and use what is there")
    parser.add_argument("--exhaustive", action="store_true", help="match all 10,153 pairs as well")
    options = parser.parse_args()
    if not SFM.is_dir():
        sys.exit(f"{SFM} is absent: set CRATER_RAY_DATA to the folder that holds sfm/")
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        root = (options.keep or Path(folder)).resolve()
        baselines = ["vocab_tree", *(["exhaustive"] if options.exhaustive else [])]
        jobs = {name: write_job(root, name, baselines, options.threads) for name in WAYS}
        rank(jobs if options.what == "retrieval" else {BEST: jobs[BEST]})
        out = jobs[BEST].out / "consumed" / "colmap"
        if options.what == "models" or not (out / TREE_RANKS).exists():
            consume.run("colmap", jobs[BEST])
        truth = Truth()
        report = models(out, truth) if options.what == "models" else retrieval(jobs, out, truth)
    show(report, options, **{name: version(name) for name in ("torch", "timm", "pycolmap")})


def write_job(root: Path, name: str, baselines: list[str], threads: int) -> Job:
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{name.translate(SLUG)}.toml"
    backbone = DINO
    if name.startswith("SIFT"):
        backbone = SIFT if "24" in name else SIFT.replace("24", "16")
    filled = {"out": path.stem, "root": SFM, "rerank": WAYS[name], "backbone": backbone}
    path.write_text(JOB.format(**filled, baselines=json.dumps(baselines), top=TOP, threads=threads))
    return load_job(path)


def rank(jobs: Mapping[str, Job]) -> None:
    """Every image's whole ranking in each index, made where there is none yet."""
    missing = [job for job in jobs.values() if not (job.out / RANKS).exists()]
    if missing:
        with cluster(missing[0].cluster):  # one for all of them
            for job in missing:
                table = NeighboursTable(top=index.run(job).rows - 1, mode="exact")
                neighbours.run(job.out, table, job.out / RANKS, job.cluster, quiet=True)


def retrieval(jobs: Mapping[str, Job], out: Path, truth: Truth) -> Report:
    """Every way's neighbours against the overlaps, all scenes in one gallery."""
    orders = {}
    for name, job in jobs.items():
        columns = pq.read_table(job.out / RANKS).to_pydict()
        orders[name] = truth.order(zip(columns["query_id"], columns["rank"], columns["id"], strict=True))
    lines = [line.split(" ") for line in (out / TREE_RANKS).read_text().splitlines()]
    orders[TREE] = truth.order((query, int(rank), hit) for query, rank, hit in lines)
    orders["the overlaps themselves"] = ranking(truth.overlap, truth.excluded)

    rows, reached = [], {}
    counted = truth.relevant.any(1)
    for name, order in orders.items():
        reached[name] = hit_rate_at(order, truth.relevant, 10)
        scores = [recall_at(order, truth.relevant, k) for k in CUTS]
        scores += [hit_rate_at(order, truth.relevant, k) for k in CUTS]
        scores += [map_at(order, truth.relevant, 10), ndcg_at(order, truth.relevant.astype(float), 10)]
        rows.append((name, *(f"{one[counted].mean():.3f}" for one in scores), elsewhere(order, truth)))
    difference = difference_interval(reached[BEST], reached[TREE])
    columns = ["neighbours by", *(f"recall@{k}" for k in CUTS), *(f"hits@{k} / min(P, {k})" for k in CUTS)]
    notes = (
        f"{len(truth.names)} photographs of {len(SCENES)} scenes in one gallery, self excluded; "
        f"{counted.sum()} queries with an overlap >= {POSITIVE}; DINOv2 as it is published, but for SIFT; "
        "exact scan, int8; recall@k is hits / P",
        f"{BEST} minus the tree at hits@10 / min(P, 10): {difference.mean:+.3f}, 95 % paired bootstrap "
        f"{difference.low:+.3f} to {difference.high:+.3f}",
    )
    return Report(
        "Photo scenes: neighbours",
        [*columns, "mAP@10", "NDCG@10", "in another scene, of the first 10"],
        rows,
        {"hits10": float(np.nanmean(reached[BEST])), "over_tree": difference.mean},
        {"hits10": ">= 0.90", "over_tree": "> 0, the interval without it"},
        notes,
    )


def elsewhere(order: Any, truth: Truth) -> str:
    """The share of first ten answers that are of another scene."""
    first = order[:, :10]
    wrong = (truth.scene[first] != truth.scene[:, None]) & (first >= 0)
    return f"{wrong.sum() / (first >= 0).sum():.3f}"


def models(out: Path, truth: Truth) -> Report:
    """What COLMAP makes of each way's pairs: a row a scene, and one for what lies between scenes."""
    told = json.loads((out / "report.json").read_text())
    sizes = {scene: sum(scene_of(name) == scene for name in truth.names) for scene in SCENES}
    rows: list[tuple[object, ...]] = []
    keys: dict[str, float] = {"models_joining_scenes": 0}
    for method in told["methods"]:
        name = method["method"].replace("_", " ")
        asked, held = (
            [line.split(" ") for line in (out / method["method"] / "matches" / file).read_text().splitlines()]
            for file in ("pairs.txt", "verified.txt")
        )
        for scene, size in sizes.items():
            pairs = [sum(scene_of(p[0]) == scene == scene_of(p[1]) for p in some) for some in (asked, held)]
            found = [model for model in method["models"] if set(model["folders"]) == {scene}]
            registered = len({image for model in found for image in model["images"]})
            largest: dict[str, Any] = found[0] if found else {}  # they are listed so
            keys[f"{method['method']} {scene}"] = len(largest.get("images", ()))
            rows.append(
                (
                    name,
                    scene,
                    *(f"{number:,}" for number in pairs),
                    f"{registered} of {size}",
                    " + ".join(str(len(model["images"])) for model in found),
                    f"{largest.get('points', 0):,}",
                    largest.get("mean_track_length", ""),
                    f"{largest['mean_reprojection_error']:.3f}" if largest else "",
                    "",
                )
            )
        crossing = [sum(scene_of(pair[0]) != scene_of(pair[1]) for pair in some) for some in (asked, held)]
        joining = sum(len(model["folders"]) > 1 for model in method["models"])
        keys["models_joining_scenes"] += joining
        seconds = sum(spent or 0 for spent in method["seconds"].values())
        last = (*(f"{number:,}" for number in crossing), "", f"{joining} joining", "", "", "")
        rows.append((name, "between scenes", *last, f"{seconds:,.0f}"))
    reference = {scene: json.loads((SFM / scene / "stats.json").read_text()) for scene in SCENES}
    rows += [("all pairs of a scene, given", scene, *of_reference(reference[scene])) for scene in SCENES]
    notes = (
        f"Retrieved: each image's {TOP} neighbours by {BEST}, in the gallery of all scenes. Vocab tree: the "
        "tree's best-ranked pairs, as many. Given: each scene's stats.json, COLMAP over that scene alone",
        f"SIFT of at most {told['options']['features']} features, {told['features']['seconds']:.0f} s once "
        "for all methods; seconds are choosing, matching and mapping. Models: images of each; points, track "
        "length and error are of the largest",
    )
    columns = ("pairs from", "scene", "pairs", "verified", "registered", "models", "points", "track length")
    wanted = {f"retrieved {scene}": f"as all pairs, {reference[scene]['registered']}" for scene in SCENES}
    return Report(
        "Photo scenes: models",
        (*columns, "error, px", "seconds"),
        rows,
        keys,
        {**wanted, "models_joining_scenes": "0"},
        notes,
    )


def of_reference(stats: Mapping[str, Any]) -> tuple[object, ...]:
    """The cells of a scene's stats.json."""
    counts = (stats["pairs_total"], stats["pairs_matched_verified"])
    return (
        *(f"{number:,}" for number in counts),
        f"{stats['registered']} of {stats['n_images']}",
        " + ".join(str(model["registered"]) for model in stats["models"]),
        f"{stats['points3D']:,}",
        float(stats["mean_track_length"]),
        f"{stats['mean_reproj_error_px']:.3f}",
        f"{stats['time']['match_exhaustive_s'] + stats['time']['mapping_s']:,.0f}",
    )


def scene_of(name: str) -> str:
    return name.split("/")[0]


if __name__ == "__main__":
    main()
