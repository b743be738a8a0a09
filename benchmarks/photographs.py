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
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from table import Report, arguments, show

HERE = Path(__file__).resolve().parent
SFM = Path(os.environ.get("CRATER_RAY_DATA", HERE.parents[1] / "shared" / "data")) / "sfm"
SCENES = ("seneca_a", "boruszyn", "copr", "caliterra")
SCORINGS, TREE = ("maxsim", "mutual", "consistent"), "vocabulary tree"
POSITIVE, CUTS, FEATURES, WORDS = 0.25, (5, 10), 2048, 4096
MAX_PIXELS = 10**8
COLUMNS = ("image_a", "image_b", "overlap", "reg_a", "reg_b")
Array = np.ndarray[Any, Any]


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="where COLMAP's part stays")
    parser.add_argument("--scene", action="append", choices=SCENES)
    parser.add_argument("--colmap", choices=SCENES, help="do COLMAP's part of one scene")
    options = parser.parse_args()
    keep = options.keep or Path(tempfile.mkdtemp())
    keep.mkdir(parents=True, exist_ok=True)
    if options.colmap:
        colmap(options.colmap, keep, options.threads)
        return
    import torch

    from crater_ray.evaluation.metrics import difference_interval

    torch.set_num_threads(options.threads)
    rows, keys = [], {}
    for scene in options.scene or SCENES:
        own = [sys.executable, __file__, "--colmap", scene, "--keep", str(keep)]
        subprocess.run([*own, "--threads", str(options.threads)], check=True, stdout=subprocess.DEVNULL)
        names = photographs(scene)
        relevant, hidden = truth(scene, names, keep)
        scores = {how: score for how, score in zip(SCORINGS, scored(scene, names), strict=True)}
        scores[TREE] = ranked(names, json.loads((keep / f"{scene}.ranks.json").read_text()))
        found = {how: [share(score, relevant, hidden, cut) for cut in CUTS] for how, score in scores.items()}
        asked = int(np.isfinite(found[TREE][0]).sum())
        for how, values in found.items():
            row = [scene, how, *(f"{np.nanmean(value):.3f}" for value in values)]
            for value, tree in zip(values, found[TREE], strict=True):
                at = np.isfinite(tree)
                gain = difference_interval(value[at], tree[at])
                row.append("" if how == TREE else f"{gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})")
            rows.append(row)
        keys[f"{scene}, {asked} of {len(names)} asked, consistent over the tree @10"] = float(
            np.nanmean(found["consistent"][1]) - np.nanmean(found[TREE][1])
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


def photographs(scene: str) -> list[str]:
    return sorted(path.name for path in (SFM / scene / "images").iterdir())


def truth(scene: str, names: list[str], keep: Path) -> tuple[Array, Array]:
    """(N, N) which pairs overlap, and which are not asked about."""
    row = {name: number for number, name in enumerate(names)}
    overlap, hidden = np.zeros((len(names),) * 2), np.eye(len(names), dtype=bool)
    published = SFM / scene / "pairs_gt.csv"
    with (published if published.is_file() else keep / f"{scene}.overlaps.csv").open(newline="") as file:
        for line in csv.DictReader(file):
            one, two = row[line["image_a"]], row[line["image_b"]]
            overlap[one, two] = overlap[two, one] = float(line["overlap"])
            hidden[one, two] = hidden[two, one] = "0" in (line["reg_a"], line["reg_b"])
    return (overlap >= POSITIVE) & ~hidden, hidden


def scored(scene: str, names: list[str]) -> list[Array]:
    """(N, N) scores of every image against every one, by each of SCORINGS."""
    import torch

    from crater_ray.images import pixels
    from crater_ray.plugins import registry
    from crater_ray.search.codecs import codec
    from crater_ray.search.kernel import score

    known = registry()
    backbone = known.build(known.ref("backbone", "sift", {}))
    aggregator = known.build(known.ref("aggregator", "whitened_tokens", {"of": "all"}), backbone.shape)
    folder = SFM / scene / "images"
    images = [pixels((folder / name).read_bytes(), MAX_PIXELS) for name in names]
    batches = [backbone(backbone.preprocess(image)[None]) for image in images]
    aggregator.load(aggregator.fit(iter(batches), seed=0))
    tokens = torch.cat([aggregator(batch, "gallery") for batch in batches])
    codes, scales = codec("int8").encode(tokens.numpy())
    size = {"codec": "int8", "k": tokens.shape[1], "dim": tokens.shape[2]}
    return [
        np.concatenate([score(one[None], codes, scales, scoring=how, **size) for one in tokens])
        for how in SCORINGS
    ]


def ranked(names: list[str], ranks: dict[str, list[str]]) -> Array:
    """(N, N) minus the rank, for rankings by name; what is not ranked comes last."""
    row = {name: number for number, name in enumerate(names)}
    found = np.full((len(names),) * 2, -np.inf)
    for query, others in ranks.items():
        for rank, other in enumerate(others):
            found[row[query], row[other]] = -rank
    return found


def share(scores: Array, relevant: Array, hidden: Array, cut: int) -> Array:
    """(N,) hits among the first `cut` over min(P, cut); nan for a query without an overlap."""
    order = np.argsort(-np.where(hidden, -np.inf, scores), axis=1, kind="stable")[:, :cut]
    hits = np.take_along_axis(relevant, order, 1).sum(1)
    wanted = np.minimum(relevant.sum(1), cut)
    return np.where(wanted > 0, hits / np.maximum(wanted, 1), np.nan)


def colmap(scene: str, keep: Path, threads: int) -> None:
    """Writes the tree's ranks, and overlaps where none are published."""
    import pycolmap

    pycolmap.logging.minloglevel = 2
    images, database = SFM / scene / "images", keep / f"{scene}.db"
    ranks, overlaps = keep / f"{scene}.ranks.json", keep / f"{scene}.overlaps.csv"
    wanted = not ((SFM / scene / "pairs_gt.csv").is_file() or overlaps.is_file())
    if ranks.is_file() and not wanted:
        return
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.num_threads, extraction.use_gpu = threads, False
    extraction.sift.max_num_features = FEATURES
    single = pycolmap.CameraMode.SINGLE
    pycolmap.extract_features(database, images, camera_mode=single, extraction_options=extraction)
    if not ranks.is_file():
        ranks.write_text(json.dumps(tree(database, keep / f"{scene}.tree", threads)))
    if wanted:
        matching = pycolmap.FeatureMatchingOptions()
        matching.num_threads, matching.use_gpu = threads, False
        pycolmap.match_exhaustive(database, matching_options=matching)
        mapping = pycolmap.IncrementalPipelineOptions()
        mapping.num_threads = threads
        models = pycolmap.incremental_mapping(database, images, keep / f"{scene}.models", options=mapping)
        write_overlaps(overlaps, photographs(scene), list(models.values()))


def tree(database: Path, path: Path, threads: int) -> dict[str, list[str]]:
    """Each image's others, best first, by a vocabulary learnt from these images."""
    import pycolmap

    with pycolmap.Database.open(database) as opened:
        images = {image.image_id: image.name for image in opened.read_all_images()}
        sample = np.concatenate([opened.read_descriptors(number).data for number in images])
        if len(sample) > 50 * WORDS:
            sample = sample[np.random.default_rng(0).choice(len(sample), 50 * WORDS, replace=False)]
        index = pycolmap.VisualIndex.create(128, 64)  # COLMAP's own numbers
        build = pycolmap.VisualIndex.BuildOptions()
        build.num_visual_words, build.num_iterations, build.num_rounds = WORDS, 11, 1
        build.num_threads = threads
        described = pycolmap.FeatureDescriptors(pycolmap.FeatureExtractorType.SIFT, sample)
        index.build(build, described.to_float())
        index.write(str(path))
        pairing = pycolmap.VocabTreePairingOptions()
        pairing.num_images, pairing.vocab_tree_path, pairing.num_threads = len(images), str(path), threads
        generator = pycolmap.VocabTreePairGenerator(pairing, opened)
        ranks: dict[str, list[str]] = {}
        while not generator.has_finished():
            for query, other in generator.next():
                if query != other:
                    ranks.setdefault(images[query], []).append(images[other])
    return ranks


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
