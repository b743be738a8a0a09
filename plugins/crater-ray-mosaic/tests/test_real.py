"""The Moon's GLD100 and the poses of the fixed bench. A few seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.warp import calculate_default_transform, reproject

from crater_ray.errors import BadImage
from crater_ray_mosaic.mosaic import mosaic
from crater_ray_mosaic.pose import Pose
from crater_ray_mosaic.raster import Raster
from crater_ray_mosaic.rendering import Rendering
from crater_ray_mosaic.view import render

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


def test_a_place_is_cut_as_a_crater_there_is_listed(moon_data: Path) -> None:
    dem = moon_data / "moon_gld100_64ppd_50s50n.tif"
    reader = mosaic(
        raster=dem,
        kind="dem",
        preset="head_povilaitis",
        catalogue=moon_data / "moon_craters_head_povilaitis.csv",
        min_diameter_km=15,
        craters=20,
        scales=[2.5, 4.0],
    )
    found = [item for part in reader.parts() for item in reader.read(part) if item.id.endswith("_x2.5")]
    assert len(found) == 20
    for item in found:
        place = (item.columns[name] for name in ("lat", "lon", "diameter_km"))
        assert np.array_equal(reader.cut(*place, "moon"), reader.load(item.uri))
    for place, why in [
        ((-70.0, 10.0, 20.0, "moon"), "outside: its centre is not on the raster"),
        ((-49.99, 10.0, 80.0, None), "outside the raster"),
        ((0.0, 10.0, 0.2, "moon"), "a crater of 0.2 km is smaller than a pixel of moon_gld100"),
        ((0.0, 10.0, 20.0, "mars"), "is of moon, not of mars"),
    ]:
        with pytest.raises(BadImage, match=why):
            reader.cut(*place)


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # rasterio's own
@pytest.mark.parametrize(
    "crs",
    [
        "+proj=stere +lat_0=-90 +lon_0=-165 +R=1737400",
        "+proj=sinu +lon_0=-150 +R=1737400",
        "+proj=merc +R=1737400",
        "+proj=lcc +lat_1=-10 +lat_2=-25 +lon_0=-165 +R=1737400",
    ],
)
def test_a_warped_dem_shows_what_the_dem_shows(moon_data: Path, tmp_path: Path, crs: str) -> None:
    """GDAL's warp of real relief, under one sun: the same views, at the same place."""
    plain = moon_data / "moon_gld100_256ppd_w180_w150_s30_n00.tif"
    warped = tmp_path / "warped.tif"
    with rasterio.open(plain) as file:
        window = rasterio.windows.Window(2000, 2000, 1600, 1600)
        values, there = file.read(1, window=window).astype(np.float32), file.window_transform(window)
        bounds = file.window_bounds(window)
        to, width, height = calculate_default_transform(file.crs, crs, 1600, 1600, *bounds)
        made = np.full((height, width), np.nan, np.float32)
        reproject(
            values, made, src_transform=there, src_crs=file.crs, dst_transform=to, dst_crs=crs,
            dst_nodata=np.nan, resampling=Resampling.cubic,
        )  # fmt: skip
    with rasterio.open(
        warped, "w", driver="GTiff", width=width, height=height, count=1, dtype="float32", crs=crs,
        transform=to, nodata=np.nan,
    ) as out:  # fmt: skip
        out.write(made, 1)
    rasters = Raster(plain), Raster(warped)
    for pose in (Pose(-11.0, -169.0, 25, 270.0, 30.0), Pose(-10.5, -168.0, 40, 45.0, 30.0)):
        one, other = (render(raster, pose, Rendering("dem")).astype(float) for raster in rasters)
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.99
        assert max(abs(step) for step in offset(one, other)) < 0.1


def offset(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Pixels down and right by which the second lies off the first: least squares on its slopes."""
    down, right = np.gradient(one)
    slopes = np.stack([down.ravel(), right.ravel()], axis=1)
    moved = np.linalg.lstsq(slopes, (one - other).ravel(), rcond=None)[0]
    return float(moved[0]), float(moved[1])
