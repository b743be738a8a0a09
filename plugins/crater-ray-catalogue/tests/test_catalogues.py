"""The reader of two catalogues, on the real Moon."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crater_ray.errors import BadImage, ReaderError
from crater_ray.testing import FakeIndex, check_reader
from crater_ray_catalogue.catalogues import Catalogues, catalogues
from crater_ray_catalogue.dedup import Dedup

BOX = (-176.0, -20.0, -172.0, -16.0)


def reader(moon: Path, **more: Any) -> Catalogues:
    return catalogues(
        raster=moon / "moon_gld100_64ppd_50s50n.tif",
        kind="dem",
        body="moon",
        catalogue=moon / "moon_craters_head_povilaitis.csv",
        preset="head_povilaitis",
        second_catalogue=moon / "moon_craters_hkpolyu_ge3km_53of72sectors.csv",
        second_preset="hkpolyu",
        second_drop={"source": "Head2010"},
        box=BOX,
        min_diameter_km=20.0,
        **more,
    )


@pytest.mark.real
def test_both_catalogues_are_listed_and_seen(moon_data: Path) -> None:
    both = reader(moon_data, second_sun_azimuth=90.0)
    check_reader(both)
    items = [item for part in both.parts() for item in both.read(part)]
    sides = [item.columns["catalogue"] for item in items]
    assert {"a", "b"} == set(sides)
    assert all(item.id.startswith(f"{side}:") for item, side in zip(items, sides, strict=True))
    widths = [item.columns["diameter_km"] for item in items if item.columns["catalogue"] == "b"]
    assert 16.0 <= min(widths) < 20.0
    suns = {item.columns["catalogue"]: item.columns["sun_azimuth_deg"] for item in items}
    assert suns == {"a": 270.0, "b": 90.0}
    with pytest.raises(BadImage, match="a: or b:"):
        both.load(items[0].uri[2:])


@pytest.mark.real
def test_rows_are_dropped_by_a_column(moon_data: Path) -> None:
    kept = [reader(moon_data, drop=drop)._mosaics["a"].catalogue for drop in ({}, {"source": "Head2010"})]
    assert len(kept[1]) < len(kept[0])
    assert not any(id.startswith("H") for id in kept[1].ids)
    with pytest.raises(ReaderError, match="no column 'sauce'"):
        reader(moon_data, drop={"sauce": "Head2010"})
    assert np.isfinite(kept[0].lat).all()


@pytest.mark.real
def test_two_catalogues_of_the_moon_are_merged(moon_data: Path, tmp_path: Path) -> None:
    """Geometry alone: most of the sparser catalogue has its counterpart, a twentieth of a diameter off."""
    index = FakeIndex(reader(moon_data, size=32))
    Dedup(views=False)(index, index.neighbours(1), tmp_path)
    first = [row for row in index.items(["catalogue"])["catalogue"].to_pylist() if row == "a"]
    with (tmp_path / "one_to_one.csv").open(newline="") as file:
        pairs = list(csv.DictReader(file))
    assert len(pairs) >= 0.8 * len(first)
    assert all(row["first_id"][0] in "HP" and row["second_id"].startswith("LU") for row in pairs)
    away = [
        np.hypot(float(r["lat"]) - float(r["second_lat"]), float(r["lon"]) - float(r["second_lon"]))
        for r in pairs
    ]
    assert np.median(away) < 0.15
