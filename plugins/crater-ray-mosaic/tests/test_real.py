"""The Moon's GLD100 and the poses of the fixed bench. A few seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crater_ray.errors import BadImage
from crater_ray_mosaic.mosaic import mosaic

pytestmark = pytest.mark.real


def test_first_look_is_listed_whole_and_renders(moon_data: Path) -> None:
    counts = {"gallery": 3000, "near": 1500, "any": 1500}
    for role, count in counts.items():
        reader = mosaic(
            raster=moon_data / "moon_gld100_64ppd_50s50n.tif",
            kind="dem",
            poses=moon_data / "first_look.csv",
            role=role,
        )
        found = [item for part in reader.parts() for item in reader.read(part)]
        assert len({item.id for item in found}) == count
        for item in found[:: count // 100]:
            view = reader.load(item.uri)
            assert view.shape == (224, 224)
            assert view.std() > 20


def test_rims_are_where_the_catalogue_says(moon_data: Path) -> None:
    """Lit from the west a bowl is dark in its west and bright in its east; a diameter away nothing is."""
    reader = mosaic(
        raster=moon_data / "moon_gld100_64ppd_50s50n.tif",
        kind="dem",
        preset="head_povilaitis",
        catalogue=moon_data / "moon_craters_head_povilaitis.csv",
        min_diameter_km=15,
        max_diameter_km=30,
        craters=150,
        scales=[3.0],
    )
    y, x = (np.mgrid[:224, :224] - 111.5) / (224 / 3)  # diameters
    wall = (np.hypot(x, y) > 0.25) & (np.hypot(x, y) < 0.5) & (np.abs(y) < 0.3)
    beside = wall, np.roll(wall, 70, axis=0)
    steps = []
    for part in reader.parts():
        for item in reader.read(part):
            try:
                view = reader.load(item.uri).astype(float)
            except BadImage:
                continue
            steps.append([view[mask & (x > 0)].mean() - view[mask & (x < 0)].mean() for mask in beside])
    inside, control = np.median(steps, axis=0)
    assert len(steps) > 120
    assert inside > 40
    assert abs(control) < 15


def test_a_second_catalogue_and_the_colour_map(moon_data: Path) -> None:
    reader = mosaic(
        raster=moon_data / "moon_lroc_wac_color_4096x2048.jpg",
        extent=[-180, -90, 180, 90],
        radius_km=1737.4,
        catalogue=moon_data / "moon_craters_hkpolyu_ge3km_53of72sectors.csv",
        preset="hkpolyu",
        min_diameter_km=60,
        craters=20,
    )
    views = [reader.load(item.uri) for part in reader.parts() for item in reader.read(part)]
    assert len(views) == 40
    assert {view.shape for view in views} == {(224, 224, 3)}
