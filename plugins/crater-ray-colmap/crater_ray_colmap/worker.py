"""What calls pycolmap, started as a program by child.py. It imports nothing of this package, nor Pillow: the
zlib that Pillow carries and pycolmap's own cannot be in one process (free() aborts).

A task is one JSON object, and so is its answer.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from crater_ray.files import write_whole

DESCRIPTORS_A_WORD = 50  # that the vocabulary is learnt from, at most
ITERATIONS = 25  # of k-means, once: COLMAP's 3 x 100 take ten minutes of a core for 4096 words
DRAWN = 20_000  # points of a model that the figure gets, at most


def features(task: dict[str, Any]) -> dict[str, Any]:
    """SIFT of every image that has none yet: images, keypoints in all, names not read, names without any."""
    options = pycolmap.FeatureExtractionOptions()
    options.max_image_size = task["image_size"]
    options.sift.max_num_features = task["features"]
    options.num_threads = task["threads"]
    options.use_gpu = False
    for names in task["groups"]:
        with pycolmap.Database.open(task["database"]) as database:
            there = [database.read_image_with_name(n) for n in names if database.exists_image(n)]
            # one without keypoints was cut between its two writes, and COLMAP gives it another try
            done = {i.name for i in there if database.exists_keypoints(i.image_id)}
        left = [name for name in names if name not in done]
        if not left:
            continue
        reader = pycolmap.ImageReaderOptions()
        reader.camera_model = task["camera_model"]
        if there:  # cut in the middle of the group: the rest gets the camera that the first ones have
            reader.existing_camera_id = there[0].camera_id
        pycolmap.extract_features(
            task["database"],
            task["images"],
            left,
            pycolmap.CameraMode.SINGLE,
            reader_options=reader,
            extraction_options=options,
        )
    with pycolmap.Database.open(task["database"]) as database:
        counts = {i.name: database.num_keypoints_for_image(i.image_id) for i in database.read_all_images()}
        cameras = database.num_cameras()
    asked = [name for names in task["groups"] for name in names]
    return {
        "images": len(asked),
        "cameras": cameras,
        "keypoints": sum(counts.values()),
        "unread": [name for name in asked if name not in counts],
        "without": [name for name in asked if counts.get(name) == 0],
    }


def tree(task: dict[str, Any]) -> dict[str, Any]:
    """COLMAP's own retrieval, learnt from these images: `ranks`, each image's others, best first."""
    with pycolmap.Database.open(task["database"]) as database:
        images = {image.image_id: image.name for image in database.read_all_images()}
        clock = time.perf_counter()
        described = [database.read_descriptors(i).data for i in images if database.exists_descriptors(i)]
        sample = np.concatenate(described)
        limit = DESCRIPTORS_A_WORD * task["words"]
        if len(sample) > limit:
            sample = sample[np.random.default_rng(task["seed"]).choice(len(sample), limit, replace=False)]
        index = pycolmap.VisualIndex.create(
            128, 64
        )  # of a descriptor, of its embedding: COLMAP's own numbers
        build = pycolmap.VisualIndex.BuildOptions()
        build.num_visual_words = min(task["words"], len(sample))
        build.num_iterations, build.num_rounds = ITERATIONS, 1
        build.num_threads = task["threads"]
        index.build(build, pycolmap.FeatureDescriptors(pycolmap.FeatureExtractorType.SIFT, sample).to_float())
        index.write(task["tree"])
        built = time.perf_counter()
        options = pycolmap.VocabTreePairingOptions()
        options.num_images = task["neighbours"] + 1  # it counts the query itself
        options.vocab_tree_path = task["tree"]
        options.num_threads = task["threads"]
        generator = pycolmap.VocabTreePairGenerator(options, database)
        ranks: dict[str, list[str]] = {}
        while not generator.has_finished():
            for query, other in generator.next():
                if query != other:
                    ranks.setdefault(images[query], []).append(images[other])
    return {
        "ranks": ranks,
        "descriptors": len(sample),
        "build_seconds": built - clock,
        "query_seconds": time.perf_counter() - built,
    }


def matches(task: dict[str, Any]) -> dict[str, Any]:
    """Just these pairs, matched and verified: how many were compared, and `inliers` of those that hold."""
    matching = pycolmap.FeatureMatchingOptions()
    matching.num_threads = task["threads"]
    matching.use_gpu = False
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = task["seed"]
    pairing = pycolmap.ImportedPairingOptions()
    pairing.match_list_path = task["pairs"]
    pycolmap.match_image_pairs(task["database"], matching, pairing, verification)
    with pycolmap.Database.open(task["database"]) as database:
        names = {image.image_id: image.name for image in database.read_all_images()}
        compared = database.num_matched_image_pairs()
        ids, inliers = database.read_two_view_geometry_num_inliers()
    least = verification.min_num_inliers
    held = []
    for pair, count in zip(ids, inliers, strict=True):
        if count >= least:
            first, second = sorted(names[image] for image in pycolmap.pair_id_to_image_pair(pair))
            held.append((first, second, int(count)))
    return {"compared": compared, "inliers": sorted(held)}


def model(task: dict[str, Any]) -> dict[str, Any]:
    """Incremental mapping: `models`, the largest first, and where their cameras and points lie (an npz)."""
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads = task["threads"]
    options.random_seed = task["seed"]
    options.min_model_size = task["min_model_size"]
    made = pycolmap.incremental_mapping(task["database"], task["images"], task["out"], options)
    order = sorted(made, key=lambda number: (-made[number].num_reg_images(), number))
    shapes: dict[str, Any] = {}
    models = []
    for place, number in enumerate(order):
        one = made[number]
        images = sorted((one.images[i] for i in one.reg_image_ids()), key=lambda image: image.name)
        ids = sorted(one.point3D_ids())
        points = [one.point3D(i) for i in ids[:: max(1, len(ids) // DRAWN)]]
        shapes[f"centres{place}"] = np.array([image.projection_center() for image in images]).reshape(-1, 3)
        shapes[f"points{place}"] = np.array([point.xyz for point in points]).reshape(-1, 3)
        shapes[f"colours{place}"] = np.array([point.color for point in points], np.uint8).reshape(-1, 3)
        models.append(
            {
                "folder": str(number),
                "images": [image.name for image in images],
                "points": one.num_points3D(),
                "observations": one.compute_num_observations(),
                "mean_track_length": one.compute_mean_track_length(),
                "mean_reprojection_error": one.compute_mean_reprojection_error(),
            }
        )
    np.savez(task["shapes"], **shapes)
    return {"models": models}


TASKS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "features": features,
    "tree": tree,
    "matches": matches,
    "model": model,
}


def end_with_parent() -> None:
    """Even where the parent is killed: by its pipe, and on Linux by the kernel too, since the thread does not
    run while pycolmap holds the lock of Python's interpreter.
    """

    def wait() -> None:
        os.read(0, 1)  # returns when the other end is closed
        os._exit(1)

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    end_with_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # an abort leaves its log, and no gigabytes of memory
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    pycolmap.set_random_seed(task.get("seed", 0))
    answer = {**TASKS[task["do"]](task), "pycolmap": pycolmap.__version__}
    write_whole(Path(sys.argv[2]), json.dumps(answer).encode())


if __name__ == "__main__":
    main()
