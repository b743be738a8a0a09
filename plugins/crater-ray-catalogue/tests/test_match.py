"""Images put on the ground: windows, candidates, transforms against the planted, and the consumer as a
whole.
"""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from pyproj import CRS, Transformer
from rasterio.transform import Affine

from crater_ray.errors import UserError
from crater_ray.testing import FakeIndex, check_backbone
from crater_ray.types import Hit
from crater_ray_catalogue import MatchOptions
from crater_ray_catalogue.candidates import Detections, find, read_detections
from crater_ray_catalogue.constellations import Correspondence, follow
from crater_ray_catalogue.difference_of_gaussians import DifferenceOfGaussians
from crater_ray_catalogue.entries import Entries
from crater_ray_catalogue.ground import Ground, Plane
from crater_ray_catalogue.match import Match
from crater_ray_catalogue.matching import turns
from crater_ray_catalogue.proposals import Places
from crater_ray_catalogue.registration import Georeference, register
from crater_ray_catalogue.scene import Scene, read_scene
from crater_ray_catalogue.window_queries import WindowQueries
from crater_ray_mosaic.bodies import system
from crater_ray_mosaic.mosaic import Mosaic
from crater_ray_mosaic.options import MosaicOptions
from crater_ray_mosaic.pose import Pose
from crater_ray_mosaic.raster import Raster
from crater_ray_mosaic.rendering import Rendering
from crater_ray_mosaic.view import render

RADIUS, SIDE, DEGREES = 1737.4, 640, 20.0  # kilometres, pixels and degrees of the made-up relief
STEP = np.pi / 180 * DEGREES / SIDE * RADIUS


def relief(craters: np.ndarray[Any, Any], seed: int = 0) -> np.ndarray[Any, Any]:
    """(SIDE, SIDE) metres: bowls with rims at (column, row, diameter) pixels, on rough ground."""
    draw = np.random.default_rng(seed)
    height = np.zeros((SIDE, SIDE))
    for size, metres in ((80, 500.0), (40, 200.0), (16, 60.0)):
        rough = Image.fromarray(draw.normal(0, metres, (SIDE // size + 1,) * 2).astype(np.float32))
        height += np.asarray(rough.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for x, y, width in craters:
        r = np.hypot(columns - x, rows - y) / (width / 2)
        bowl = np.where(r < 1, np.maximum(r, 0.5) ** 2 - 0.75, 0.25 * np.exp(-6 * (r - 1)))
        height += bowl * width * STEP * 1000 * draw.uniform(0.09, 0.14)
    return height


@pytest.fixture(scope="module")
def planet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with dem.tif, twenty degrees of a body at the equator, and craters.csv."""
    folder = tmp_path_factory.mktemp("planet")
    draw = np.random.default_rng(3)
    craters: list[tuple[float, float, float]] = []
    while len(craters) < 150:
        one = (*draw.uniform(20, SIDE - 20, 2), float(np.clip(18 * (1 + draw.pareto(2.5)), 18, 60)))
        if all(np.hypot(one[0] - x, one[1] - y) > 0.65 * (one[2] + width) for x, y, width in craters):
            craters.append(one)
    height = relief(np.array(craters))
    with rasterio.open(
        folder / "dem.tif",
        "w",
        driver="GTiff",
        width=SIDE,
        height=SIDE,
        count=1,
        dtype="float32",
        transform=Affine(DEGREES / SIDE, 0, 0, 0, -DEGREES / SIDE, 10),
    ) as file:
        file.write(height.astype(np.float32), 1)
    with (folder / "craters.csv").open("w", newline="") as text:
        rows = csv.writer(text)
        rows.writerow(("crater_id", "lat", "lon_e180", "diam_km"))
        for number, (x, y, width) in enumerate(craters):
            lat, lon = 10 - (y + 0.5) * DEGREES / SIDE, (x + 0.5) * DEGREES / SIDE
            rows.writerow((f"C{number:03d}", f"{lat:.6f}", f"{lon:.6f}", f"{width * STEP:.4f}"))
    return folder


class Seeing(FakeIndex):
    """A FakeIndex that is asked by image: the cosine of all pixels, coarsened."""

    def __init__(self, reader: Any) -> None:
        super().__init__(reader)
        self.asked = 0
        self._seen = np.stack([self._coarse(self.image(id)) for id in self.ids])

    def _coarse(self, image: Any) -> np.ndarray[Any, Any]:
        small = np.asarray(Image.fromarray(image).convert("L").resize((20, 20), Image.Resampling.BOX), float)
        small = small - small.mean()
        return (small / np.linalg.norm(small)).ravel()

    def search(self, image: Any = None, *, top: int = 10, **more: Any) -> list[Hit]:
        if image is None:
            return super().search(top=top, **more)
        self.asked += 1
        scores = self._seen @ self._coarse(image)
        return [
            Hit(rank, self.ids[row], self._items[row].group, float(scores[row]))
            for rank, row in enumerate(np.argsort(-scores, kind="stable")[:top].tolist(), 1)
        ]


def seeing(planet: Path, **more: Any) -> Seeing:
    options = {"raster": planet / "dem.tif", "radius_km": RADIUS, "kind": "dem", "body": "moon"}
    options |= {"catalogue": planet / "craters.csv", "preset": "head_povilaitis", "size": 96}
    options |= {"max_invalid": 0.6, "scales": (2.5,)}
    return Seeing(Mosaic(MosaicOptions(**(options | more))))


def shot(planet: Path, path: Path, pose: Pose, side: int = 320) -> Path:
    picture = render(Raster(planet / "dem.tif", radius_km=RADIUS), pose, Rendering("dem", side))
    Image.fromarray(picture).save(path)
    return path


def test_a_turned_image_is_put_where_it_lies(planet: Path, tmp_path: Path) -> None:
    pose = Pose(0.8, 9.5, 150.0, 270.0, 30.0, rotation=65.0)
    image = shot(planet, tmp_path / "a turned one.png", pose)
    index = seeing(planet)
    report = Match(image=image)(index, index.neighbours(), tmp_path / "out")
    folder = tmp_path / "out" / "a turned one"
    assert report == folder / "report.md"
    assert report.read_text().startswith("# a turned one: found\n"), report.read_text()
    told = json.loads((folder / "transform.json").read_text())
    assert told["up_clockwise_from_north_deg"] == pytest.approx(65.0, abs=1.0)
    assert told["km_per_pixel"] == pytest.approx(300 / 320, rel=0.01)
    assert np.hypot(told["lat"] - 0.8, told["lon"] - 9.5) < 0.1  # three kilometres, craters are 17 and more
    with (folder / "tie_points.csv").open(newline="") as file:
        ties = list(csv.DictReader(file))
    assert len(ties) >= 5
    assert np.median([float(tie["residual_d"]) for tie in ties]) < 0.1
    with (folder / "control_network.csv").open(newline="") as file:
        network = list(csv.DictReader(file))
    assert [float(row["sample"]) for row in network] == pytest.approx([float(tie["x"]) + 1 for tie in ties])
    with rasterio.open(folder / "georeferenced.tif") as file:
        assert (file.width, file.height) == (320, 320)
        inverse = Transformer.from_crs(CRS.from_wkt(file.crs.to_wkt()), system("moon"), always_xy=True)
        away = [inverse.transform(*file.xy(float(t["y"]), float(t["x"]))) for t in ties]
        assert np.isfinite(file.read(1)).all()
    places = [(float(tie["lon"]), float(tie["lat"])) for tie in ties]
    assert np.median(np.hypot(*(np.array(away) - places).T)) < 0.1
    assert all((folder / name).stat().st_size > 1000 for name in ("match.png", "match.gpkg"))
    before = index.asked
    Match(image=image)(index, index.neighbours(), tmp_path / "out")
    assert index.asked == before  # every window asked is kept


def test_ground_that_the_index_has_not_is_refused(planet: Path, tmp_path: Path) -> None:
    index = seeing(planet, box=(12.0, -10.0, 20.0, 10.0))
    image = shot(planet, tmp_path / "elsewhere.png", Pose(0.0, 5.2, 150.0, 270.0, 30.0, rotation=-40.0))
    (tmp_path / "out" / "elsewhere").mkdir(parents=True)
    (tmp_path / "out" / "elsewhere" / "georeferenced.tif").write_text("of an earlier run")
    report = Match(image=image)(index, index.neighbours(), tmp_path / "out")
    assert report.read_text().startswith("# elsewhere: not found\n")
    assert not (tmp_path / "out" / "elsewhere" / "georeferenced.tif").exists()


def test_bad_input_is_told(planet: Path, tmp_path: Path) -> None:
    index = seeing(planet, max_diameter_km=25.0)

    def run(**options: Any) -> None:
        Match(**options)(index, index.neighbours(), tmp_path / "out")

    with pytest.raises(UserError, match="cannot read the image"):
        run(image=tmp_path / "nothing.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(UserError, match="cannot read the image"):
        run(image=tmp_path / "text.png")
    Image.new("L", (200, 200), 90).save(tmp_path / "grey.png")
    with pytest.raises(UserError, match="one grey"):
        run(image=tmp_path / "grey.png")
    Image.new("L", (20, 200), 90).save(tmp_path / "narrow.png")
    with pytest.raises(UserError, match="20 x 200 pixels"):
        run(image=tmp_path / "narrow.png")
    image = shot(planet, tmp_path / "good.png", Pose(0.0, 10.0, 100.0, 270.0, 30.0), 100)
    (tmp_path / "found.csv").write_text("x,y,diameter\n10,10,20\n50,fifty,20\n")
    with pytest.raises(UserError, match=r"found.csv:3: x, y and a diameter"):
        run(image=image, candidates=tmp_path / "found.csv")
    (tmp_path / "found.csv").write_text("x,y,diameter\n10,10,20\n")
    with pytest.raises(UserError, match="1 craters were found in good, and a match takes three"):
        run(image=image, candidates=tmp_path / "found.csv")
    with pytest.raises(UserError, match="no catalogue 'b'"):
        run(image=image, catalogue="b")


def test_craters_are_found_under_any_sun() -> None:
    craters = np.array(
        [(x, y, 40 + 5 * (x + y) / 200) for x in (120, 300, 480) for y in (120, 300, 480)], float
    )
    height = relief(craters).astype(np.float32)
    down, across = np.gradient(height, STEP * 1000)
    for azimuth in (20.0, 110.0, 200.0, 290.0):
        a = np.radians(azimuth)
        light = np.clip(0.5 - across * np.sin(a) * 0.87 + down * np.cos(a) * 0.87, 0, None)
        found = find(Scene(light.astype(np.float32), "made up"), 20.0, 12, "low_sun")
        off = np.hypot(found.x[:, None] - craters[:, 0], found.y[:, None] - craters[:, 1]) / craters[:, 2]
        like = np.abs(np.log(found.diameter[:, None] / craters[:, 2]))
        assert ((off < 0.1) & (like < 0.25)).any(0).sum() >= 8, azimuth


def test_windows_are_cut_at_an_angle() -> None:
    image = np.random.default_rng(0).uniform(0, 255, (80, 100)).astype(np.float32)
    scene = Scene(image, "noise")
    upright = scene.window(49.5, 39.5, 64.0, 0.0, 64)
    crop = image[8:72, 18:82]
    low, high = np.percentile(crop, (1, 99))
    expected = np.clip((crop - low) * 255 / (high - low), 0, 255)
    assert np.abs(upright[..., 0] - expected).max() <= 1
    turned = scene.window(49.5, 39.5, 64.0, 90.0, 64)  # its up is the image's right
    assert np.abs(turned.astype(int) - np.rot90(upright, 1).astype(int)).max() <= 1
    assert scene.inside(49.5, 39.5, 64.0) == 1.0
    assert scene.inside(-0.5, 39.5, 40.0) == pytest.approx(0.5)


def made_up(count: int = 40, seed: int = 0) -> tuple[Ground, Georeference, Detections]:
    """A catalogue, a transform, and candidates it puts on entries, with half as many that are none."""
    draw = np.random.default_rng(seed)
    lat, lon, diameter = (
        draw.uniform(20, 30, count),
        draw.uniform(175, 190, count),
        draw.uniform(15, 60, count),
    )
    names = [f"C{number}" for number in range(count)]
    entries = Entries(
        names,
        names,
        [""] * count,
        Places(lat, (lon + 180) % 360 - 180, diameter),
        [[n] for n in names],
        "moon",
    )
    plane = Plane(25.0, -177.5, system("moon"))
    a = 0.8 * np.exp(1j * 2.0)
    placed = Georeference(plane, complex(a), complex(-a * (300 - 300j)))
    x, y = placed.pixels(entries.places.lat, entries.places.lon)
    seen = (x > 0) & (x < 600) & (y > 0) & (y < 600)
    spare = int(seen.sum()) // 2
    found = Detections(
        np.r_[x[seen] + draw.normal(0, 0.5, seen.sum()), draw.uniform(0, 600, spare)],
        np.r_[y[seen] + draw.normal(0, 0.5, seen.sum()), draw.uniform(0, 600, spare)],
        np.r_[diameter[seen] / 0.8 * np.exp(draw.normal(0, 0.05, seen.sum())), draw.uniform(20, 70, spare)],
        np.ones(int(seen.sum()) + spare),
    )
    return Ground(entries, system("moon")), placed, found


def test_one_crater_that_looks_right_leads_to_the_transform() -> None:
    ground, truth, found = made_up()
    x, y = truth.pixels(ground.entries.places.lat, ground.entries.places.lon)
    entry = int(np.argmin(np.hypot(x - found.x[0], y - found.y[0])))
    guess = follow(Correspondence(0, entry, float(np.degrees(2.0)) + 12.0), found, ground)
    assert guess is not None
    assert guess.agreeing >= 8
    fitted = register(guess, found, ground, (600, 600), 10.0)
    assert fitted is not None
    placed, ties = fitted
    assert placed.scale == pytest.approx(0.8, rel=0.005)
    assert placed.rotation == pytest.approx(truth.rotation, abs=0.3)
    corners = np.array([0.0, 599.0, 599.0, 0.0]), np.array([0.0, 0.0, 599.0, 599.0])
    assert np.hypot(*(np.array(placed.place(*corners)) - truth.place(*corners))).max() < 0.1  # degrees
    assert (
        np.hypot(x[ties.entry] - found.x[ties.detections], y[ties.entry] - found.y[ties.detections]) < 4
    ).all()
    wrong = follow(Correspondence(0, (entry + 1) % len(ground), 40.0), found, ground)
    assert wrong is None or wrong.chance > guess.chance


def test_a_plane_is_pyprojs() -> None:
    plane = Plane(25.0, -177.5, system("moon"))
    lat, lon = np.array([25.0, 28.0, 21.0]), np.array([-177.5, 178.0, -172.0])
    phi, away, phi0 = np.radians(lat), np.radians(lon + 177.5), np.radians(25.0)
    east = RADIUS * np.cos(phi) * np.sin(away)
    north = RADIUS * (np.cos(phi0) * np.sin(phi) - np.sin(phi0) * np.cos(phi) * np.cos(away))
    assert plane.of(lat, lon) == pytest.approx(east + 1j * north, abs=1e-6)
    assert np.array(plane.back(plane.of(lat, lon))) == pytest.approx(np.array([lat, lon]))
    assert np.isnan(plane.of(-25.0, 2.5))
    ground, _, _ = made_up()
    rows, places = ground.about(3, 400.0)
    here = Plane(float(ground.entries.places.lat[3]), float(ground.entries.places.lon[3]), system("moon"))
    assert places == pytest.approx(
        here.of(ground.entries.places.lat[rows], ground.entries.places.lon[rows]), abs=1e-6
    )


def test_a_difference_of_gaussians_ignores_tone() -> None:
    backbone = DifferenceOfGaussians(size=32)
    check_backbone(backbone)
    draw = np.random.default_rng(0)
    pictures = [draw.integers(0, 256, (8, 8, 3), np.uint8) for _ in range(6)]
    pictures = [np.kron(one, np.ones((12, 12, 1), np.uint8)) for one in pictures]
    darker = [(one * 0.5 + np.linspace(0, 60, 96)[None, :, None]).astype(np.uint8) for one in pictures]
    ready = [torch.stack([backbone.preprocess(one) for one in some]) for some in (pictures, darker)]
    first, second = (backbone(some).cls for some in ready)
    assert first is not None
    assert second is not None
    assert (first @ second.T).argmax(1).tolist() == list(range(6))


def test_candidates_of_another_detector(tmp_path: Path) -> None:
    (tmp_path / "found.csv").write_text("x,y,diameter,score\n1,2,30,0.5\n200,100,40,0.9\n201,100,41,0.8\n")
    found = read_detections(tmp_path / "found.csv")
    assert found.x.tolist() == [200.0, 1.0]  # the best first, doubles gone
    (tmp_path / "found.csv").write_text("x,y\n1,2\n")
    with pytest.raises(UserError, match="no column 'diameter'"):
        read_detections(tmp_path / "found.csv")


def test_answers_are_of_one_catalogue_and_kept(planet: Path, tmp_path: Path) -> None:
    index = seeing(planet, max_diameter_km=25.0)
    scene = Scene(np.random.default_rng(0).uniform(0, 255, (100, 100)).astype(np.float32), "noise")
    groups = list(index.items(["group"])["group"].to_pylist())
    every = WindowQueries(index, scene, tmp_path, groups, 4)(50, 50, 40, 0)
    some = WindowQueries(index, scene, tmp_path, [group for group in groups if group != every[0]], 4)
    assert some(50, 50, 40, 0)[:3] == every[1:]
    some.save()
    asked = index.asked
    again = WindowQueries(index, scene, tmp_path, [group for group in groups if group != every[0]], 4)
    assert len(again) == 1
    assert again(50, 50, 40, 360)[:3] == every[1:]
    assert index.asked == asked


def test_rotations_are_asked_where_the_image_may_point(tmp_path: Path) -> None:
    options = MatchOptions(image=tmp_path / "x.png", rotations=12)
    assert turns(options) == [30.0 * number for number in range(12)]
    narrow = turns(options.model_copy(update={"north_tolerance": (-10.0, 20.0)}))
    assert narrow == pytest.approx([10.0, -20.0])


def test_a_colour_image_and_its_mask_are_read(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(1, 255, (3, 70, 90), np.uint8)
    values[:, :10] = 0
    with rasterio.open(
        tmp_path / "c.tif",
        "w",
        driver="GTiff",
        width=90,
        height=70,
        count=3,
        dtype="uint8",
        nodata=0,
        transform=Affine(2, 0, 5, 0, -2, 7),
    ) as file:
        file.write(values)
    scene = read_scene(tmp_path / "c.tif")
    assert np.isnan(scene.grey[:10]).all()
    assert scene.grey[10:] == pytest.approx(values[:, 10:].mean(0))
    assert np.isfinite(replace(scene).filled).all()
