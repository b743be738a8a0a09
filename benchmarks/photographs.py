"""Each photo scene alone: overlapping neighbours by SIFT tokens, and by COLMAP's vocabulary tree.

    python benchmarks/photographs.py [--keep FOLDER] [--scene NAME …]

Tokens are scored three ways; whitening is learnt from the scene's own, as an index does. Where a scene has no
pairs_gt.csv, exhaustive matching and mapping make its overlaps; an image may be in several models. COLMAP's
part, minutes a scene, stays in FOLDER. It runs in a process of its own.
"""

from __future__ import annotations

import csv
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from table import Report, arguments, show

SCENES = ("seneca_a", "boruszyn", "copr", "caliterra")
SCORINGS, TREE = ("maxsim", "mutual", "consistent"), "vocabulary tree"
CUTS, FEATURES, WORDS, MAX_PIXELS = (5, 10), 2048, 4096, 10**8
COLUMNS = ("image_a", "image_b", "overlap", "reg_a", "reg_b")
Array = np.ndarray[Any, Any]


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="where COLMAP's part stays")
    parser.add_argument("--scene", action="append", choices=SCENES)
    parser.add_argument("--colmap", type=Path, metavar="SCENE", help="do COLMAP's part of one scene's folder")
    options = parser.parse_args()
    keep = options.keep or Path(tempfile.mkdtemp())
    if options.colmap:
        colmap(options.colmap, keep / options.colmap.name, options.threads)
        return
    import torch
    from colmap import POSITIVE, SFM, Truth

    from crater_ray.evaluation.metrics import difference_interval, hit_rate_at, ranking

    torch.set_num_threads(options.threads)
    rows, keys = [], {}
    for scene in options.scene or SCENES:
        folder, own = SFM / scene, keep / scene
        child = [sys.executable, __file__, "--colmap", str(folder), "--keep", str(keep)]
        subprocess.run([*child, "--threads", str(options.threads)], check=True, stdout=subprocess.DEVNULL)
        truth = Truth([folder if (folder / "pairs_gt.csv").is_file() else own])
        images = [folder / name.split("/", 1)[1] for name in truth.names]
        orders = {
            how: ranking(scores, truth.excluded) for how, scores in zip(SCORINGS, scored(images), strict=True)
        }
        ranks = json.loads((own / "ranks.json").read_text())
        orders[TREE] = truth.order(
            (f"{scene}/images/{query}", rank, f"{scene}/images/{hit}")
            for query, hits in ranks.items()
            for rank, hit in enumerate(hits, 1)
        )
        asked = truth.relevant.any(1)
        found = {
            how: [hit_rate_at(order[asked], truth.relevant[asked], cut) for cut in CUTS]
            for how, order in orders.items()
        }
        for how, values in found.items():
            row = [scene, how, *(f"{value.mean():.3f}" for value in values)]
            for value, tree in zip(values, found[TREE], strict=True):
                gain = difference_interval(value, tree)
                row.append("" if how == TREE else f"{gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})")
            rows.append(row)
        keys[f"{scene}, {asked.sum()} of {len(asked)} asked, consistent over the tree @10"] = float(
            found["consistent"][1].mean() - found[TREE][1].mean()
        )
    show(
        Report(
            title="Overlapping neighbours of each scene alone",
            columns=(
                "scene",
                "scoring",
                *(f"hits@{cut} / min(P, {cut})" for cut in CUTS),
                *(f"more than the tree @{cut}" for cut in CUTS),
            ),
            rows=rows,
            keys=keys,
            notes=(
                f"SIFT, one of each of 24 × 24 cells, whitened, int8, exact scan; tree: {WORDS} words of "
                f"{FEATURES} features an image. A pair overlaps from {POSITIVE} of the shared points on. "
                "Pairs that no model has together are left out.",
                "Intervals are 95 % paired bootstraps over queries.",
            ),
        ),
        options,
        torch=torch.__version__,
    )


def scored(images: list[Path]) -> list[Array]:
    """(N, N) scores of every image against every one, by each of SCORINGS."""
    import torch

    from crater_ray.images import pixels
    from crater_ray.plugins import registry
    from crater_ray.search.codecs import codec
    from crater_ray.search.kernel import score

    known = registry()
    backbone = known.build(known.ref("backbone", "sift", {}))
    aggregator = known.build(known.ref("aggregator", "whitened_tokens", {"of": "all"}), backbone.shape)
    every = (pixels(path.read_bytes(), MAX_PIXELS) for path in images)
    batches = [backbone(backbone.preprocess(image)[None]) for image in every]
    aggregator.load(aggregator.fit(iter(batches), seed=0))
    tokens = torch.cat([aggregator(batch, "gallery") for batch in batches])
    codes, scales = codec("int8").encode(tokens.numpy())
    size = {"codec": "int8", "k": tokens.shape[1], "dim": tokens.shape[2]}
    return [
        np.concatenate([score(one[None], codes, scales, scoring=how, **size) for one in tokens])
        for how in SCORINGS
    ]


def colmap(folder: Path, own: Path, threads: int) -> None:
    """Writes the tree's ranks, and overlaps where none are published."""
    import pycolmap

    from crater_ray_colmap import worker

    pycolmap.logging.minloglevel = 2
    own.mkdir(parents=True, exist_ok=True)
    images, database, ranks = folder / "images", own / "database.db", own / "ranks.json"
    overlaps = None if (folder / "pairs_gt.csv").is_file() else own / "pairs_gt.csv"
    if ranks.is_file() and (overlaps is None or overlaps.is_file()):
        return
    names = sorted(path.name for path in images.iterdir())
    task = {"database": database, "threads": threads, "seed": 0}
    about = {"images": images, "groups": [names], "camera_model": "SIMPLE_RADIAL", "image_size": 1600}
    worker.features({**task, **about, "features": FEATURES})
    if not ranks.is_file():
        wanted = {"words": WORDS, "neighbours": len(names) - 1, "tree": own / "tree.bin"}
        ranks.write_text(json.dumps(worker.tree({**task, **wanted})["ranks"]))
    if overlaps is not None and not overlaps.is_file():
        matching = pycolmap.FeatureMatchingOptions()
        matching.num_threads, matching.use_gpu = threads, False
        pycolmap.match_exhaustive(database, matching_options=matching)
        mapping = pycolmap.IncrementalPipelineOptions()
        mapping.num_threads = threads
        models = pycolmap.incremental_mapping(database, images, own / "models", options=mapping)
        write_overlaps(overlaps, names, list(models.values()))


def write_overlaps(path: Path, names: list[str], models: list[Any]) -> None:
    """The share of shared points of each pair in the model that has both, the larger where several do."""
    seen = [
        {
            image.name: {point.point3D_id for point in image.points2D if point.has_point3D()}
            for image in model.images.values()
            if image.has_pose
        }
        for model in models
    ]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for one, two in itertools.combinations(names, 2):
            shares = [
                len(model[one] & model[two]) / max(1, min(len(model[one]), len(model[two])))
                for model in seen
                if one in model and two in model
            ]
            known = int(bool(shares))
            writer.writerow([one, two, max(shares, default=0.0), known, known])


if __name__ == "__main__":
    main()
