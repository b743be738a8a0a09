"""The consumer as a whole: planted counterparts are found, told and written as GIS programs read them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import geopandas
import pytest

from crater_ray.errors import UserError
from crater_ray.testing import FakeIndex, check_consumer
from crater_ray_catalogue.dedup import Dedup

Two = Callable[..., FakeIndex]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_counterparts_are_found_though_the_catalogues_disagree_by_a_diameter(
    two: Two, tmp_path: Path
) -> None:
    index = two(jitter=1.0)
    check_consumer(Dedup(), tmp_path, index)
    pairs = read(tmp_path / "one_to_one.csv")
    right = sum(row["first_id"][1:] == row["second_id"][1:] for row in pairs)
    assert right / len(pairs) > 0.95
    assert right > 0.95 * 150
    lone = {row["id"] for row in read(tmp_path / "only_in_second.csv")}
    assert len(lone & {f"B{number}" for number in range(190, 230)}) > 32
    assert all(0 <= float(row["probability"]) <= 1 and row["reason"] for row in read(tmp_path / "merged.csv"))


def test_every_entry_is_told_once_or_in_pairs(two: Two, tmp_path: Path) -> None:
    index = two(count=40, lone=15, jitter=0.1)
    report = Dedup(views=False)(index, index.neighbours(), tmp_path)
    merged = read(tmp_path / "merged.csv")
    assert {row["first_id"] for row in merged} - {""} == {f"A{number:03d}" for number in range(55)}
    assert {row["second_id"] for row in merged} - {""} == {
        f"B{number:03d}" for number in [*range(40), *range(55, 70)]
    }
    assert "- one to one: 40\n" in report.read_text()
    layers = geopandas.list_layers(tmp_path / "merged.gpkg")["name"].tolist()
    assert layers == ["merged", "one_to_one", "one_to_many", "only_in_first", "only_in_second"]
    frame = geopandas.read_file(tmp_path / "merged.gpkg", layer="one_to_one")
    assert len(frame) == 40
    assert "Moon" in frame.crs.name
    assert frame.geometry.iloc[0].x == pytest.approx(frame["lon"].iloc[0])


def test_one_catalogue_is_cleared_of_its_doubles(painted: Two, tmp_path: Path) -> None:
    rows = [(f"C{n}", "", float(n % 7) - 3, float(n // 7) * 1.5, 20.0 + n % 3, n) for n in range(49)]
    rows += [(f"D{n}", "", rows[n][2] + 0.01, rows[n][3], rows[n][4] * 1.02, n) for n in range(5)]
    index = painted(rows)
    Dedup()(index, index.neighbours(), tmp_path)
    doubles = read(tmp_path / "one_to_one.csv")
    assert {(row["first_id"], row["second_id"]) for row in doubles} == {(f"C{n}", f"D{n}") for n in range(5)}
    assert len(read(tmp_path / "only_once.csv")) == 44


def test_what_somebody_looked_at_is_taken(two: Two, tmp_path: Path) -> None:
    index = two(count=30, lone=5, jitter=0.2)
    known = tmp_path / "known.csv"
    known.write_text("first,second,same\nA000,B000,0\n")
    Dedup(labelled_pairs=known)(index, index.neighbours(), tmp_path)
    assert "A000" not in {row["first_id"] for row in read(tmp_path / "one_to_one.csv")}
    known.write_text("first,second,same\nA000,B999,1\n")
    with pytest.raises(UserError, match=r"known.csv:2: 'A000', 'B999'"):
        Dedup(labelled_pairs=known)(index, index.neighbours(), tmp_path)


def test_bad_input_is_told(two: Two, tmp_path: Path) -> None:
    index = FakeIndex()
    with pytest.raises(UserError, match="no column 'lon'"):
        Dedup()(index, index.neighbours(), tmp_path)
    index = two(count=5, lone=0)
    with pytest.raises(UserError, match="did you mean 'mercury'"):
        Dedup(body="mercuri")(index, index.neighbours(), tmp_path)
    with pytest.raises(UserError, match="no two of the 10 entries"):
        Dedup(max_separation=0.01)(index, index.neighbours(), tmp_path)


def test_a_double_inside_the_second_catalogue_is_told(painted: Two, tmp_path: Path) -> None:
    rows = rows_of_grid()
    index = painted([*rows, ("B00again", "b", rows[0][2], rows[0][3] + 0.015, rows[0][4] * 1.01, 0)])
    Dedup()(index, index.neighbours(), tmp_path)
    [double] = read(tmp_path / "one_to_many.csv")
    assert double["first_id"] == "A00"
    assert len(read(tmp_path / "one_to_one.csv")) == 80
    assert len(read(tmp_path / "merged.csv")) == 81


def rows_of_grid() -> list[tuple[str, str, float, float, float, int]]:
    """80 craters on a grid, in both catalogues, 0.02 diameters apart."""
    rows = []
    for n in range(80):
        lat, lon, diameter = n // 10 * 1.2, n % 10 * 1.2, 20.0 + n % 3
        rows += [(f"A{n:02d}", "a", lat, lon, diameter, n), (f"B{n:02d}", "b", lat + 0.012, lon, diameter, n)]
    return rows
