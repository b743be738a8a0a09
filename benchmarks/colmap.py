"""Photo scenes in one gallery: which pairs retrieval finds, and what COLMAP makes of them.

    python benchmarks/colmap.py retrieval [--keep FOLDER]   # neighbours against pairs_gt.csv's overlaps
    python benchmarks/colmap.py models [--keep FOLDER]       # models of these pairs, COLMAP's own, all

Both read what is in FOLDER and do what is missing there, trainings included: what is trained is trained three
times, on two scenes and the Moon, and asked by the third scene's images. What matching all pairs gives stands
in each scene's stats.json; --exhaustive does it again, over all scenes at once. A pair overlaps from 0.25 of
the shared points on; one of an image that the reference did not register is left out of every ranking: nobody
knows it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from table import Report, arguments, show

from crater_ray.config import Job, load_job
from crater_ray.evaluation.metrics import (
    difference_interval,
    hit_rate_at,
    map_at,
    ndcg_at,
    ranking,
    recall_at,
)
from crater_ray.jobs import consume, index, neighbours
from crater_ray.jobs.cluster import cluster
from crater_ray.plugins import Consumer, registry
from crater_ray.request import SearchRequest
from crater_ray.retrieve import Index
from crater_ray_supscene.overlap.scenes import pairs_scene

HERE = Path(__file__).resolve().parent
SFM = Path(os.environ.get("CRATER_RAY_DATA", HERE.parents[1] / "shared" / "data")) / "sfm"
SCENES = ("caliterra", "copr", "boruszyn")
POSITIVE, CUTS, TOP = 0.25, (5, 10, 25), 5
RECIPE = HERE.parent / "plugins" / "crater-ray-supscene" / "recipes" / "photos.toml"
BEST = "SIFT, one of each of 24 × 24 cells, whitened"
FROZEN = "whitened tokens, farthest, K = 64"
TREE = "COLMAP's vocabulary tree"


@dataclass(frozen=True)
class Way:
    """What an index holds: its [rerank] table and its [backbone] table, or the aggregator that is trained."""

    rerank: str = ""
    backbone: str = 'name = "dinov2_offline"\ncache = "tokens"'
    trained: str = ""


def sift(grid: int, rerank: str) -> Way:
    return Way(rerank, f'name = "sift"\ngrid = {grid}')


ALL, WHITENED = 'name = "all"', 'name = "whitened_tokens"\nof = "all"'
WAYS = {
    "cls": Way('name = "cls"'),
    "mean": Way('name = "mean"'),
    "gem": Way('name = "gem"'),
    "cls whitened": Way('name = "whitened"\nof = "cls"\ndim = 128'),
    "VLAD, 32 clusters": Way('name = "vlad"'),
    "instance tokens, K = 64": Way('name = "instance_tokens"\nk = 64'),
    FROZEN: Way('name = "whitened_tokens"\nof_options = { k = 64, seeds = "farthest" }'),
    "DiVLAD, trained": Way(trained="divlad"),
    "NetVLAD, trained": Way(trained="netvlad"),
    "SALAD, trained": Way(trained="salad"),
    "SIFT, one of each of 16 × 16 cells": sift(16, ALL),
    "SIFT, one of each of 16 × 16 cells, whitened": sift(16, WHITENED),
    "SIFT, one of each of 24 × 24 cells": sift(24, ALL),
    BEST: sift(24, WHITENED),
}
MAPPED = (FROZEN, *(name for name, way in WAYS.items() if way.trained))  # beside the best and the tree
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

    def __init__(self, folders: Sequence[Path]) -> None:
        scenes = [pairs_scene(folder) for folder in folders]
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
        own = ["vocab_tree", *(["exhaustive"] if options.exhaustive else [])]
        wanted = WAYS if options.what == "retrieval" else {name: WAYS[name] for name in (BEST, *MAPPED)}
        jobs = {name: write_jobs(root, name, own if name == BEST else [], options.threads) for name in wanted}
        rank([job for some in jobs.values() for job in some])
        out = jobs[BEST][0].out / "consumed" / "colmap"
        if options.what == "models" or not (out / TREE_RANKS).exists():
            consume.run("colmap", jobs[BEST][0])
        truth = Truth([SFM / name for name in SCENES])
        if options.what == "models":
            outs = {name: mapped(root, name, jobs[name], out) for name in MAPPED}
            report = models(out, outs, truth)
        else:
            report = retrieval(jobs, out, truth)
    show(report, options, **{name: version(name) for name in ("torch", "timm", "pycolmap")})


def write_jobs(root: Path, name: str, baselines: list[str], threads: int) -> list[Job]:
    """The job that all images ask; of what is trained one a scene, in order, that this scene's images ask."""
    root.mkdir(parents=True, exist_ok=True)
    way, jobs = WAYS[name], []
    for scene in SCENES if way.trained else ("",):
        path = root / f"{name.translate(SLUG)}{scene and '_' + scene}.toml"
        tables = {"backbone": way.backbone, "rerank": way.rerank}
        if way.trained:
            place = f"path = {json.dumps(str(trained(root, way.trained, scene)))}"
            tables = {"backbone": f'name = "trained"\n{place}', "rerank": f'name = "{way.trained}"\n{place}'}
        filled = {"out": path.stem, "root": SFM, "baselines": json.dumps(baselines)}
        path.write_text(JOB.format(**filled, **tables, top=TOP, threads=threads))
        jobs.append(load_job(path))
    return jobs


def trained(root: Path, aggregator: str, scene: str) -> Path:
    """The model of the photos' recipe that never saw the scene, trained where it is not there yet."""
    out = root / "trained" / f"{aggregator}_{scene}"
    if not (out / "model").exists():
        others = [other for other in SCENES if other != scene]
        changes = {
            "out": str(out),
            "aggregator.name": aggregator,
            "scenes.0.names": others,
            "held_out.scenes.0.names": [scene],
        }
        given = [word for key, value in changes.items() for word in ("--set", f"{key}={json.dumps(value)}")]
        command = [sys.executable, "-m", "crater_ray.cli", "train", str(RECIPE), *given]
        if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
            sys.exit(f"{out.name} failed")
    return out / "model"


def asked(jobs: Sequence[Job]) -> pa.Table:
    """Every image's ranking, by the job that its scene asks."""
    tables = [pq.read_table(job.out / RANKS) for job in jobs]
    if len(tables) == 1:
        return tables[0]
    own = [pc.starts_with(t["query_id"], f"{scene}/") for t, scene in zip(tables, SCENES, strict=True)]
    return pa.concat_tables([table.filter(some) for table, some in zip(tables, own, strict=True)])


def rank(jobs: Sequence[Job]) -> None:
    """Every image's whole ranking in each index, made where there is none yet."""
    missing = [job for job in jobs if not (job.out / RANKS).exists()]
    if missing:
        with cluster(missing[0].cluster):  # one for all of them
            for job in missing:
                request = SearchRequest(top=index.run(job).rows - 1, mode="exact")
                neighbours.run(job.out, request, job.out / RANKS, job.cluster, quiet=True)


def retrieval(jobs: Mapping[str, Sequence[Job]], out: Path, truth: Truth) -> Report:
    """Every way's neighbours against the overlaps, all scenes in one gallery."""
    orders = {}
    for name, some in jobs.items():
        columns = asked(some).to_pydict()
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
        f"{counted.sum()} queries with an overlap >= {POSITIVE}; DINOv2 as it is published, but for SIFT "
        "and what is trained; exact scan, int8; recall@k is hits / P",
        "Trained: a block and the aggregator, soft supervised contrastive loss, on two scenes and views of "
        "the Moon that overlap; asked by the third scene, so that a row is three trainings",
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


def mapped(root: Path, name: str, jobs: Sequence[Job], best: Path) -> Path:
    """COLMAP's folder for another way's pairs; features are those of `best`."""
    out = root / "mapped" / name.translate(SLUG)
    if not (out / "features").exists():
        shutil.copytree(best / "features", out / "features")
    consumer: Consumer = registry().build(jobs[0].consumer_ref("colmap"))
    consumer(Index(jobs[0].out), ds.dataset(asked(jobs)), out)
    return out


def models(out: Path, outs: Mapping[str, Path], truth: Truth) -> Report:
    """What COLMAP makes of each way's pairs: a row a scene, and one for what lies between scenes."""
    told = json.loads((out / "report.json").read_text())
    methods = [
        (BEST if method["method"] == "retrieved" else method["method"].replace("_", " "), out, method)
        for method in told["methods"]
    ]
    for name, other in outs.items():
        methods += [
            (name, other, method) for method in json.loads((other / "report.json").read_text())["methods"]
        ]
    sizes = {scene: sum(scene_of(name) == scene for name in truth.names) for scene in SCENES}
    rows: list[tuple[object, ...]] = []
    keys: dict[str, float] = {"models_joining_scenes": 0}
    for name, place, method in methods:
        matches = place / method["method"] / "matches"
        chosen, held = (
            [line.split(" ") for line in (matches / file).read_text().splitlines()]
            for file in ("pairs.txt", "verified.txt")
        )
        for scene, size in sizes.items():
            pairs = [sum(scene_of(p[0]) == scene == scene_of(p[1]) for p in some) for some in (chosen, held)]
            found = [model for model in method["models"] if set(model["folders"]) == {scene}]
            registered = len({image for model in found for image in model["images"]})
            largest: dict[str, Any] = found[0] if found else {}  # they are listed so
            keys[f"{name} {scene}"] = len(largest.get("images", ()))
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
        crossing = [sum(scene_of(pair[0]) != scene_of(pair[1]) for pair in some) for some in (chosen, held)]
        joining = sum(len(model["folders"]) > 1 for model in method["models"])
        keys["models_joining_scenes"] += joining
        seconds = sum(spent or 0 for spent in method["seconds"].values())
        last = (*(f"{number:,}" for number in crossing), "", f"{joining} joining", "", "", "")
        rows.append((name, "between scenes", *last, f"{seconds:,.0f}"))
    reference = {scene: json.loads((SFM / scene / "stats.json").read_text()) for scene in SCENES}
    rows += [("all pairs of a scene, given", scene, *of_reference(reference[scene])) for scene in SCENES]
    notes = (
        f"Each image's {TOP} neighbours in the gallery of all scenes. Vocab tree: the tree's best-ranked "
        f"pairs, as many as of {BEST}. Given: each scene's stats.json, COLMAP over that scene alone",
        f"SIFT of at most {told['options']['features']} features, {told['features']['seconds']:.0f} s once "
        "for all methods; seconds are choosing, matching and mapping. Models: images of each; points, track "
        "length and error are of the largest",
    )
    columns = ("pairs from", "scene", "pairs", "verified", "registered", "models", "points", "track length")
    wanted = {f"{BEST} {scene}": f"as all pairs, {reference[scene]['registered']}" for scene in SCENES}
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
