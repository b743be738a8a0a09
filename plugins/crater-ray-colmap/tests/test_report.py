"""What the report says of what COLMAP said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crater_ray_colmap import ColmapOptions
from crater_ray_colmap.figure import from_above
from crater_ray_colmap.pictures import Gallery, Picture
from crater_ray_colmap.report import SHAPES, Method, folders, write

NAMES = [f"{scene}/images/{number}.jpg" for scene in "ab" for number in range(4)]


def model(folder: str, images: list[str], points: int, track: float, error: float) -> dict[str, Any]:
    return {
        "folder": folder,
        "images": images,
        "points": points,
        "observations": round(points * track),
        "mean_track_length": track,
        "mean_reprojection_error": error,
    }


@pytest.fixture
def methods(tmp_path: Path) -> list[Method]:
    matched = {
        "inliers": [(NAMES[0], NAMES[1], 40), (NAMES[4], NAMES[5], 20)],
        "seconds": 2.0,
        "resumed": True,
    }
    found = [model("1", NAMES[:4], 300, 4.0, 0.5), model("0", NAMES[3:6], 100, 2.0, 0.1)]
    folder = tmp_path / "retrieved" / "model"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    shapes = {}
    for place, one in enumerate(found):
        shapes[f"centres{place}"] = random.normal(size=(len(one["images"]), 3))
        shapes[f"points{place}"] = random.normal(size=(50, 3))
        shapes[f"colours{place}"] = random.integers(0, 256, (50, 3), np.uint8)
    np.savez(folder / SHAPES, **shapes)
    nothing = {"models": [], "seconds": 0.5, "resumed": False}
    return [
        Method("retrieved", 7, matched, {"models": found, "seconds": 3.0, "resumed": False}, {}),
        Method("vocab_tree", 7, {"inliers": [], "seconds": 1.0}, nothing, {"seconds": 9.0}),
    ]


def test_models_are_counted_together(methods: list[Method]) -> None:
    told = methods[0].as_dict()
    assert told["registered"] == 6  # one image is in both
    assert told["points"] == 400
    assert told["mean_track_length"] == pytest.approx((300 * 4 + 100 * 2) / 400)
    assert told["mean_reprojection_error"] == pytest.approx((300 * 0.5 + 100 * 0.1) / 400)
    assert told["seconds"] == {"choosing": None, "matching": 2.0, "mapping": 3.0}
    assert [one["folders"] for one in told["models"]] == [{"a": 4}, {"a": 1, "b": 2}]
    assert methods[1].as_dict()["mean_track_length"] is None


def test_the_report_is_written_for_people_and_programs(methods: list[Method], tmp_path: Path) -> None:
    features = {
        "cameras": 2,
        "keypoints": 1234,
        "seconds": 1.25,
        "pycolmap": "4.2.1",
        "without": ["b/images/3.jpg"],
    }
    pictures = [Picture(str(number), f"{number}.jpg", (8, 8), "", f"{number}.jpg") for number in range(6)]
    pictures.append(Picture("6", "6.webp.png", (8, 8), "", "6.webp", converted=True))
    pictures.append(Picture("7", "IMG%207.jpg", (8, 8), "", "IMG 7.jpg"))
    path = write(tmp_path, methods, features, ColmapOptions(top=5), Gallery(Path("out/images"), pictures))
    text = path.read_text()
    assert "8 images, 2 cameras, 1,234 keypoints in 1.2 s (pycolmap 4.2.1)." in text
    assert "| retrieved | 7 | 2 | 6 of 8 | 2 | 400 | 3.50 | 0.400 |  | 2.0 | 3.0 |" in text
    assert "| vocab_tree | 7 | 0 | 0 of 8 | 0 | 0 |  |  | 9.0 | 1.0 | 0.5 |" in text
    assert "- model/sparse/0: 3 images (a 1, b 2), 100 points, track length 2.00, error 0.100 px" in text
    assert "- Without a single keypoint, so in no model: b/images/3.jpg." in text
    assert "- retrieved: matching was cut; its seconds are of the last run." in text
    assert "- COLMAP cannot read 1 of the files: they were converted to PNG in out/images." in text
    assert "- 1 names cannot stand in a list of pairs; here 'IMG 7.jpg' is 'IMG%207.jpg', and all" in text
    told = json.loads((tmp_path / "report.json").read_text())
    assert told["converted"] == ["6.webp.png"]
    assert told["renamed"] == {"IMG 7.jpg": "IMG%207.jpg"}
    assert told["methods"] == [method.as_dict() for method in methods]
    assert told["options"]["top"] == 5
    assert (tmp_path / "report.png").read_bytes()[:4] == b"\x89PNG"


def test_without_mapping_there_are_pairs_alone(tmp_path: Path) -> None:
    features = {"cameras": 1, "keypoints": 0, "seconds": 0.0, "pycolmap": "4.2.1", "without": []}
    method = Method("retrieved", 1, {"inliers": [("a", "b", 20)], "seconds": 1.0}, None, {})
    two = Gallery(Path("photos"), [Picture(name, name, (8, 8), "", name) for name in "ab"])
    text = write(tmp_path, [method], features, ColmapOptions(), two).read_text()
    assert "| retrieved | 1 | 1 |  |  |  |  |  |  | 1.0 |  |" in text


def test_names_are_counted_by_their_first_folder() -> None:
    assert folders(["b/x/1.jpg", "a/1.jpg", "b/2.jpg", "3.jpg"]) == {"": 1, "a": 1, "b": 2}


def test_from_above_looks_along_the_normal_of_the_ground() -> None:
    random = np.random.default_rng(0)
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    ground = np.column_stack([random.uniform(-3, 3, (500, 2)), np.zeros(500)]) @ turn + 7
    seen = from_above(ground[:5], ground)(ground)
    near = random.integers(0, 500, (2, 100))
    np.testing.assert_allclose(
        np.linalg.norm(seen[near[0]] - seen[near[1]], axis=1),
        np.linalg.norm(ground[near[0]] - ground[near[1]], axis=1),
    )
    for few in range(3):
        assert from_above(ground[:few], ground[:0])(ground[:few]).shape == (few, 2)
