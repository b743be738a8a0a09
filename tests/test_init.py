"""`crater-ray init` writes a job that plans and indexes at once, and says what it found."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from crater_ray.cli import app
from crater_ray.config import load_job
from crater_ray.plan import run as plan
from crater_ray.plugins import Options, PluginSpec, Question

DATA = Path(os.environ.get("CRATER_RAY_DATA", Path(__file__).parents[1] / "../shared/data")).resolve()
MOON, MARS = DATA / "moon", DATA / "mars"
HEAD = MOON / "moon_craters_head_povilaitis.csv"
real = pytest.mark.skipif(not HEAD.is_file(), reason="the shared data are not here; set CRATER_RAY_DATA")


def init(job: Path, *options: object, typed: str | None = None) -> tuple[int, str]:
    """Exit code, and all that was said."""
    given = [str(job), *map(str, options), *(["--yes"] if typed is None else [])]
    done = CliRunner().invoke(app, ["init", *given], input=typed)
    return done.exit_code, done.output


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 255, (40, 60, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    return folder


def test_photographs_typed_answer_by_answer(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = init(Path("jobs/mine.toml"), typed="folder\n\nphotos\n\n\n\n")
    assert code == 0, said
    assert "3 views in 1 part; 0.png is 60 × 40 pixels" in said
    assert "Folder of the images: photos" in said
    written = Path("jobs/mine.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(written)
    assert tables["reader"] == {"name": "folder", "root": "../photos", "pattern": "**/*"}
    assert tables["out"] == "indexes/mine"
    assert "# Folder of the images" in written  # a comment to every key
    assert plan(load_job(Path("jobs/mine.toml"))).views == 3
    again = written.splitlines()[0].removeprefix("# crater-ray ").replace("mine.toml", "other.toml")
    assert CliRunner().invoke(app, shlex.split(again)).exit_code == 0  # the line at its head writes it again
    assert tomllib.loads(Path("jobs/other.toml").read_text()) == tables
    code, said = init(Path("jobs/mine.toml"), "--root", "photos")
    assert code == 2
    assert "jobs/mine.toml exists, and is not overwritten: edit it, or name another file" in said


def test_a_wrong_answer_is_asked_again_and_a_wrong_option_names_itself(tmp_path: Path) -> None:
    given = ("--reader", "planets", "--backbone", "timm", "--size")
    code, said = init(tmp_path / "a.toml", *given, "8")
    assert code == 2
    assert "--size: '8': input should be greater than or equal to 16" in said
    code, said = init(tmp_path / "a.toml", *given[:-1], typed="moon,mars\n2\nlarge\n")
    assert "Error: 'large': input should be a valid integer" in said
    code, said = init(tmp_path / "a.toml", "--reader", "folder", "--root", tmp_path, "--raster", "moon.tif")
    assert code == 2
    assert "--raster is not used" in said
    assert "--root is needed: Folder of the images" in init(tmp_path / "a.toml", "--reader", "folder")[1]
    assert (
        "--root is needed: root" in init(tmp_path / "a.toml", "--reader", "craterbench")[1]
    )  # declares none
    assert "end its name in .toml" in init(tmp_path / "a")[1]
    assert not list(tmp_path.iterdir())


def test_a_folder_without_images_writes_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "crater_ray.cli",
            "init",
            "a.toml",
            "--yes",
            "--reader",
            "folder",
            "--root",
            ".",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "no image below" in done.stderr
    assert not list(tmp_path.iterdir())


@real
@pytest.mark.real
@pytest.mark.parametrize(
    ("raster", "catalogue", "more", "found", "options"),
    [
        (
            MOON / "moon_gld100_64ppd_50s50n.tif",
            HEAD,
            ("--min-diameter-km", 150),
            [
                "23,040 × 6,400 pixels of int16, 0.474 km each; -180 to 180° east, -50 to 50° north",
                "'GCS_Moon_2000', of a body of 1737.4 km: moon",
                "24,520 craters of 5 to 2,050 km, 20,334 of them on the raster; 12 of its pixels are 5.69 km",
            ],
            {"body": "moon", "kind": "dem", "lon_column": "lon_e180", "diameter_column": "diam_km"},
        ),
        (
            MOON / "moon_lroc_wac_color_4096x2048.jpg",
            HEAD,
            ("--body", "moon", "--min-diameter-km", 150),
            ["does not say where it lies; it may be a whole globe", "has no CRS"],
            {"body": "moon", "kind": "image", "extent": [-180.0, -90.0, 180.0, 90.0]},
        ),
        (
            MARS / "mars_viking_color_20ppd_w180_e060.tif",
            MARS / "mars_craters_iau.csv",
            ("--min-diameter-km", 100),
            ["'GCS_Mars_2000_Sphere', of a body of 3396.19 km: mars", "has the columns name, lat, lon_e180"],
            {"body": "mars", "kind": "image", "id_column": "name"},
        ),
        (
            MARS / "mars_height_8bit_23ppd_w180_e060.tif",
            MARS / "mars_craters_robbins_sample.csv",
            ("--kind", "slope", "--min-diameter-km", 100),
            [
                "one band of 8 bits is ambiguous",
                "'LON_CIRC_IMG' does not say whether longitudes count eastward or westward",
                "'DIAM_CIRC_IMG' does not say its unit",
            ],
            {"kind": "slope", "west_positive": False, "diameter_unit": "km", "id_column": "CRATER_ID"},
        ),
    ],
    ids=["moon-dem", "moon-image", "mars-image", "mars-heights"],
)
def test_the_shared_maps(
    tmp_path: Path,
    raster: Path,
    catalogue: Path,
    more: tuple[object, ...],
    found: list[str],
    options: dict[str, object],
) -> None:
    job = tmp_path / "map.toml"
    code, said = init(job, "--raster", raster, "--catalogue", catalogue, *more)
    assert code == 0, said
    written = job.read_text(encoding="utf-8")
    for line in found:
        assert line in said
        assert line in written
    tables = tomllib.loads(written)
    assert options.items() <= tables["reader"].items()
    assert tables["queries"] == {"views": "query", "queries_per_crater": 1}
    cost = plan(load_job(job))
    assert cost.views >= 20
    assert f"{cost.views:,} views" in said


def test_a_question_is_about_an_option_there_is() -> None:
    with pytest.raises(ValueError, match="question 'colour' of 'one' is none of its options"):
        PluginSpec("one", "", "one:One", Options, questions=(Question("colour", "Colour"),))
    with pytest.raises(ValueError, match=r"write it as 'package\.module:function'"):
        PluginSpec("one", "", "one:One", Options, interview="one.ask")
