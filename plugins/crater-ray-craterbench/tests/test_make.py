"""mosaic-bench: a valid layout, a training split no query touches, images that a second run keeps."""

from __future__ import annotations

import csv
import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from PIL import Image
from rasterio.transform import Affine

from crater_ray.errors import ConfigError, ReaderError, StorageFull
from crater_ray.plugins import registry
from crater_ray_craterbench.layout import read_layout, validate_layout
from crater_ray_craterbench.make import BenchmarkOptions, write_bench
from crater_ray_craterbench.mosaic_bench import mosaic_bench
from crater_ray_mosaic.options import MosaicOptions


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """A region of rough ground with 40 craters, one of them outside, one on a plain."""
    draw = np.random.default_rng(5)
    ground = draw.normal(0, 300, (160, 160))
    ground[:40, :40] = 0
    rows = [
        (
            f"C{number:02d}",
            round(draw.uniform(-17, 10), 3),
            round(draw.uniform(-17, 17), 3),
            round(draw.uniform(20, 60), 2),
        )
        for number in range(38)
    ]
    rows += [("far", 60, 60, 30), ("plain", 16, -16, 20)]
    raster, catalogue = tmp_path / "ground.tif", tmp_path / "craters.csv"
    profile = {"driver": "GTiff", "width": 160, "height": 160, "count": 1, "dtype": "int16"}
    crs, transform = "+proj=longlat +R=1737400 +no_defs", Affine(0.25, 0, -20, 0, -0.25, 20)
    with rasterio.open(raster, "w", crs=crs, transform=transform, **profile) as file:
        file.write(ground.astype("int16"), 1)
    lines = ["crater_id,lat,lon_e180,diam_km", *(",".join(map(str, row)) for row in rows)]
    catalogue.write_text("\n".join(lines) + "\n")
    return {
        "raster": raster,
        "catalogue": catalogue,
        "preset": "hkpolyu",
        "kind": "dem",
        "size": 48,
        "queries_per_crater": 2,
    }


def test_the_layout_holds_what_it_says(given: dict[str, Any], tmp_path: Path) -> None:
    plan = BenchmarkOptions(MosaicOptions(**given), queries=5)
    seen: list[tuple[int, int]] = []
    written = write_bench(plan, tmp_path / "bench", progress=lambda done, total: seen.append((done, total)))
    root = tmp_path / "bench"
    assert validate_layout(root) == []
    gallery, query, train = (read_layout(root, split) for split in ("gallery", "query", "train"))
    assert (len(gallery), len(query), len(train)) == (written.gallery, written.query, written.train)
    assert seen == [(80, 80), (10, 10)]
    assert {entry.view for entry in gallery} == {"2x", "3x"}
    with Image.open(root / query[0].path) as picture:
        assert (picture.size, picture.format) == ((48, 48), "JPEG")
    with (root / "metadata/source/rejected.csv").open() as file:
        reasons = {row["view_id"]: row["reason"] for row in csv.DictReader(file)}
    assert reasons["far_x2"].startswith("outside")
    assert reasons["plain_x2"].startswith("flat")
    stats = json.loads((root / "metadata/stats.json").read_text())
    assert stats["rejected"] == dict(written.rejected)
    assert sum(written.rejected.values()) == len(reasons) == 90 - written.gallery - written.query
    assert stats["craters_off_raster"] == 1
    with Image.open(root / "contact-sheet.png") as sheet:
        assert sheet.width > 4 * 190


def test_no_query_touches_the_training_split(given: dict[str, Any], tmp_path: Path) -> None:
    write_bench(BenchmarkOptions(MosaicOptions(**given), queries=5), tmp_path / "bench")
    query, train = (read_layout(tmp_path / "bench", split) for split in ("query", "train"))
    relevance = json.loads((tmp_path / "bench/metadata/query_relevance.json").read_text())
    queried = {entry.crater_id for entry in query}
    closure = (
        queried
        | {crater for entry in query for crater in entry.relevant}
        | {crater for one in relevance.values() for crater in one["raw_relevant_ids"]}
    )
    learnt = {entry.crater_id for entry in train}
    assert len(queried) == 5
    assert any(len(entry.relevant) > 1 for entry in query)
    assert all(entry.crater_id in entry.relevant for entry in query)
    assert learnt
    assert not learnt & closure
    # nor does a training view show a queried crater: distances on the tangent plane, by hand
    with given["catalogue"].open() as file:
        place = {
            row["crater_id"]: [float(row[key]) for key in ("lat", "lon_e180", "diam_km")]
            for row in csv.DictReader(file)
        }
    for crater in learnt:
        lat, lon, diameter = place[crater]
        for other in queried:
            a, b, size = place[other]
            north, east = np.radians(a - lat) * 1737.4, np.radians(b - lon) * 1737.4 * np.cos(np.radians(lat))
            if 0.21 * 3 * diameter <= size <= 0.99 * 3 * diameter:
                assert max(abs(north), abs(east)) > 1.5 * diameter * 0.9


def test_a_test_box_splits_by_region(given: dict[str, Any], tmp_path: Path) -> None:
    write_bench(BenchmarkOptions(MosaicOptions(**given), test_box=(-20, -20, 0, 20)), tmp_path / "bench")
    with given["catalogue"].open() as file:
        lon = {row["crater_id"]: float(row["lon_e180"]) for row in csv.DictReader(file)}
    gallery, query, train = (
        read_layout(tmp_path / "bench", split) for split in ("gallery", "query", "train")
    )
    assert all(lon[entry.crater_id] <= 0 for entry in query)
    assert all(lon[entry.crater_id] > 0 for entry in train)
    assert train
    assert any(lon[entry.crater_id] > 0 for entry in gallery)
    with pytest.raises(ReaderError, match="holds none of them"):
        write_bench(
            BenchmarkOptions(MosaicOptions(**given), test_box=(100, -20, 110, 20)), tmp_path / "other"
        )


def test_a_second_run_keeps_images_and_adds_what_is_missing(given: dict[str, Any], tmp_path: Path) -> None:
    root = tmp_path / "bench"
    plan = BenchmarkOptions(MosaicOptions(**given), queries=3, format="png")
    write_bench(plan, root)
    before = {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    images = sorted((root / "images").rglob("*.png"))
    images[0].unlink()
    marked = images[1].stat().st_mtime_ns
    (root / "splits/test.json").unlink()
    write_bench(plan, root, threads=3)
    assert {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()} == before
    assert images[1].stat().st_mtime_ns == marked
    with pytest.raises(ReaderError, match="holds a bench of other options"):
        write_bench(BenchmarkOptions(MosaicOptions(**(given | {"seed": 9})), queries=3, format="png"), root)
    with pytest.raises(ReaderError, match="is not empty"):
        write_bench(plan, tmp_path)


def test_a_full_disk_loses_nothing_written(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, plan, written = tmp_path / "bench", BenchmarkOptions(MosaicOptions(**given), queries=3), []
    save = Image.Image.save

    def full(picture: Image.Image, file: Any, *rest: Any, **more: Any) -> None:
        if len(written) == 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(file.name)
        save(picture, file, *rest, **more)

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(StorageFull, match="no room left"):
        write_bench(plan, root, threads=1)
    images = [path for path in (root / "images").rglob("*") if path.is_file()]
    assert len(images) == 20
    assert all(path.suffix == ".jpg" for path in images)
    monkeypatch.undo()
    write_bench(plan, root)
    assert validate_layout(root) == []


def test_own_craters_only(given: dict[str, Any], tmp_path: Path) -> None:
    write_bench(BenchmarkOptions(MosaicOptions(**given, co_visible=False), queries=8), tmp_path / "bench")
    assert all(entry.relevant == (entry.crater_id,) for entry in read_layout(tmp_path / "bench", "query"))


def test_the_command(given: dict[str, Any], tmp_path: Path) -> None:
    spec = registry().specs("command")["mosaic-bench"]
    assert spec.factory == "crater_ray_craterbench.mosaic_bench:mosaic_bench"
    arguments = [
        "--raster",
        str(given["raster"]),
        "--catalogue",
        str(given["catalogue"]),
        "--preset",
        "hkpolyu",
        "--dem",
        "--out",
        str(tmp_path / "bench"),
        "--craters",
        "12",
        "--queries",
        "4",
        "--min-diameter",
        "25",
        "--size",
        "32",
        "--set",
        "sun_elevation=20",
        "--set",
        "queries_per_crater=1",
        "--box",
        "-20",
        "-20",
        "20",
        "20",
        "--json",
    ]
    result = CliRunner().invoke(mosaic_bench, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert (summary["gallery"], summary["query"]) == (24, 4)
    assert validate_layout(tmp_path / "bench") == []
    assert "sun_elevation" in (tmp_path / "bench/metadata/source/plan.json").read_text()
    assert str(tmp_path) not in "".join(path.read_text() for path in (tmp_path / "bench").rglob("*.json"))
    for wrong, message in (
        (["--set", "sun_elevatoin=20"], "did you mean 'sun_elevation'"),
        (["--set", "x"], "option=value"),
    ):
        with pytest.raises(ConfigError, match=message):
            CliRunner().invoke(mosaic_bench, [*arguments, *wrong], catch_exceptions=False)
