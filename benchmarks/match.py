"""Images of unknown place, rotation, scale and sun put on the ground: `crater-ray consume match`.

    python benchmarks/match.py [indexes/moon_box-trained] [--scenes 60] [--optical 60] [--json]

Scenes are rendered from the DEM in 60° to 120° E, which the trained backbone never saw: 512 pixels a side,
0.55 to 1.1 km a pixel, any rotation, the sun anywhere at 15 to 45°, five craters of the index of 20 pixels
or more inside. Right: the scene is placed, and the catalogue's craters of 20 pixels or more lie within 0.25
of their diameter of where they are, in the median. False: placed and not right; and placed by an index that
has no crater of its ground.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from table import Report, arguments, show

from crater_ray.request import SearchRequest
from crater_ray.shard import Queries
from crater_ray_catalogue import MatchOptions
from crater_ray_catalogue.candidates import find
from crater_ray_catalogue.dedup import part
from crater_ray_catalogue.entries import Entries, entries
from crater_ray_catalogue.ground import Ground
from crater_ray_catalogue.match import MOST
from crater_ray_catalogue.matching import RANK, Outcome, match
from crater_ray_catalogue.scene import Scene
from crater_ray_catalogue.window_queries import CANDIDATES, SIZE, VIEWS
from crater_ray_mosaic.bodies import system
from crater_ray_mosaic.covisible import project
from crater_ray_mosaic.pose import Pose
from crater_ray_mosaic.raster import Raster
from crater_ray_mosaic.rendering import Rendering
from crater_ray_mosaic.view import render

ROOT = Path(__file__).resolve().parents[1]
MOON = ROOT.parent / "shared" / "data" / "moon"
RADIUS, SIDE = 1737.4, 512
BOX = (60.0, -49.0, 120.0, 49.0)  # held out of training
SCALES = (0.55, 1.1)  # km a pixel
LEAST, CRATERS, NEAR = 20.0, 5, 0.25
DEGREES = (20.0, 40.0)  # of an optical scene's side
SLOPES, STEEPEST = 16, 35.0  # pixels a degree of the raster of slopes; degrees that are white
HIGH_SUN = {"illumination": "high_sun", "pixels": 6.0, "width": 4.0, "rotations": 36, "windows": 1080}


@dataclass(frozen=True)
class Shot:
    """One scene and what is true of it."""

    scene: Scene
    pose: Pose

    @property
    def scale(self) -> float:
        return 2 * self.pose.half_width_km / self.scene.width


def shots(count: int, everything: Entries, seed: int = 0) -> Iterator[Shot]:
    """Scenes of the held-out box."""
    raster = Raster(MOON / "moon_gld100_64ppd_50s50n.tif")
    draw = np.random.default_rng(seed)
    made = 0
    while made < count:
        scale = math.exp(draw.uniform(*np.log(SCALES)))
        lat, lon = math.degrees(math.asin(draw.uniform(-0.75, 0.75))), draw.uniform(BOX[0], BOX[2])
        sun = draw.uniform(0, 360), draw.uniform(15, 45)
        pose = Pose(lat, lon, scale * SIDE / 2, *sun, draw.uniform(-180, 180))
        reach = math.degrees(pose.half_width_km * math.sqrt(2) / RADIUS)
        if abs(lat) + reach > BOX[3] or not (
            BOX[0] <= lon - reach / math.cos(math.radians(abs(lat) + reach))
            and lon + reach / math.cos(math.radians(abs(lat) + reach)) <= BOX[2]
        ):
            continue
        if len(inside(pose, SIDE, everything)[0]) < CRATERS:
            continue
        grey = render(raster, pose, Rendering("dem", SIDE)).astype(np.float32)
        yield Shot(Scene(grey, f"{lat:.2f} {lon:.2f}"), pose)
        made += 1


def optical(count: int, everything: Entries, seed: int = 0) -> Iterator[Shot]:
    """Scenes of the optical mosaic, DEGREES wide at its own scale, turned anyhow."""
    path = MOON / "moon_lroc_wac_color_4096x2048.jpg"
    raster = Raster(path, radius_km=RADIUS, extent=(-180.0, -90.0, 180.0, 90.0))
    draw = np.random.default_rng(seed)
    made = 0
    while made < count:
        wide = draw.uniform(*DEGREES)
        lat, lon = math.degrees(math.asin(draw.uniform(-0.7, 0.7))), draw.uniform(-180, 180)
        pose = Pose(lat, lon, RADIUS * math.sin(math.radians(wide / 2)), rotation=draw.uniform(-180, 180))
        side = round(wide / raster.frame.step_lon)
        if abs(lat) + wide / math.sqrt(2) > 50 or len(inside(pose, side, everything)[0]) < CRATERS:
            continue
        grey = render(raster, pose, Rendering("image", side)).mean(2).astype(np.float32)
        yield Shot(Scene(grey, f"{lat:.2f} {lon:.2f}"), pose)
        made += 1


def slopes_indexed() -> Path:
    """The index of benchmarks/match_wac.toml, and the raster of slopes that it is made of."""
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.transform import Affine

    from crater_ray import load_job
    from crater_ray.jobs import index

    job = load_job(ROOT / "benchmarks" / "match_wac.toml")
    path = Path(job.reader.options["raster"])
    path = path if path.is_absolute() else (job.path.parent / path).resolve()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(MOON / "moon_gld100_64ppd_50s50n.tif") as file:
            shape = file.height * SLOPES // 64, file.width * SLOPES // 64
            height = file.read(1, out_shape=shape, resampling=Resampling.average).astype(np.float32)
        metres = math.radians(1 / SLOPES) * RADIUS * 1000
        north, east = np.gradient(height, metres)
        lat = 50 - (np.arange(shape[0]) + 0.5) / SLOPES
        steep = np.degrees(np.arctan(np.hypot(north, east / np.cos(np.radians(lat))[:, None])))
        grey = np.clip(steep * 255 / STEEPEST, 0, 255).astype(np.uint8)
        where = {
            "transform": Affine(1 / SLOPES, 0, -180, 0, -1 / SLOPES, 50),
            "crs": "+proj=longlat +R=1737400",
        }
        profile = {"driver": "GTiff", "width": shape[1], "height": shape[0], "count": 1, "dtype": "uint8"}
        with rasterio.open(path, "w", **profile, **where, compress="deflate") as file:
            file.write(grey, 1)
    if not (job.out / "versions").is_dir():
        index.run(job)
    return job.out


def inside(pose: Pose, side: int, everything: Entries) -> tuple[Any, Any, Any]:
    """Entries of LEAST pixels that lie in the scene whole: rows, x, y."""
    p = everything.places
    x, y = project(pose, p.lat, p.lon, RADIUS)
    half = p.diameter / 2 / pose.half_width_km
    with np.errstate(invalid="ignore"):
        rows = np.flatnonzero((np.abs(x) + half <= 1) & (np.abs(y) + half <= 1))
    rows = rows[p.diameter[rows] * side / 2 / pose.half_width_km >= LEAST]
    return rows, (x[rows] + 1) * side / 2 - 0.5, (1 - y[rows]) * side / 2 - 0.5


def error(outcome: Outcome, shot: Shot, everything: Entries) -> float:
    """The median distance, in diameters, of the scene's craters from where the transform puts them."""
    if outcome.placed is None:
        return math.nan
    rows, x, y = inside(shot.pose, shot.scene.width, everything)
    p = everything.places
    pixels = outcome.placed.pixels(p.lat[rows], p.lon[rows])
    off = np.hypot(pixels[0] - x, pixels[1] - y) * shot.scale / p.diameter[rows]
    return float(np.median(np.where(np.isfinite(off), off, 99.0)))


class Asking:
    """ask() of match(): windows of one scene, encoded once for both indexes, with its ground and without."""

    def __init__(self, index: Any, scene: Scene) -> None:
        self.index, self.scene = index, scene
        self.encoded: dict[tuple[float, ...], Any] = {}
        self.gone: Any = None  # (views,) bool: those that may not answer

    def __call__(self, x: float, y: float, width: float, angle: float) -> list[str]:
        name = round(x, 3), round(y, 3), round(width, 3), round(angle, 3)
        if name not in self.encoded:
            self.encoded[name] = self.index.local.encode(self.scene.window(x, y, width, angle, SIZE))
        rows = self.encoded[name]
        mask = None if self.gone is None else ~self.gone
        request = SearchRequest(top=VIEWS * RANK, candidates=CANDIDATES)
        hits = self.index.local.answer(Queries(rows.vectors, rows.tokens, mask=mask), request)
        return list(dict.fromkeys(hit.group for hit in hits))[:RANK]


@dataclass(frozen=True)
class Told:
    """What came of a scene. refused: without its ground, where that was asked."""

    error: float | None  # diameters; None: not placed
    windows: int
    seconds: float
    refused: bool | None


def measure(
    index: Any, scenes: Iterator[Shot], options: MatchOptions, control: int, kept: Path | None
) -> list[Told]:
    """Every scene matched; the first `control` of them also by the index without their ground.

    kept: a JSON file of scenes that are done, by number; they are taken as they are.
    """
    everything = entries(index)
    done: dict[str, Any] = json.loads(kept.read_text()) if kept and kept.exists() else {}
    told = []
    for number, shot in enumerate(scenes):
        known = done.get(str(number))
        if known is None or (known["refused"] is None and number < control):
            one = one_scene(index, everything, shot, options, number < control)
            done[str(number)] = known = asdict(one)
            print(f"{number} {shot.scene.name}: {known}", file=sys.stderr, flush=True)
            if kept:
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(done, indent=1))
        told.append(Told(**known))
    return told


def one_scene(index: Any, everything: Entries, shot: Shot, options: MatchOptions, control: bool) -> Told:
    started = time.perf_counter()
    detections = find(shot.scene, options.pixels, MOST, options.illumination)
    ask = Asking(index, shot.scene)
    outcome = match(shot.scene, detections, Ground(everything, system("moon")), ask, options)
    seconds, windows = time.perf_counter() - started, len(ask.encoded)
    refused = None
    if control:
        there = np.ones(len(everything), bool)
        ground = Ground(everything, system("moon"))
        there[ground.near(shot.pose.lat, shot.pose.lon, 1.2 * math.sqrt(2) * shot.pose.half_width_km)] = False
        ask.gone = np.isin(np.array(index.groups), np.array(everything.ids)[~there])
        other = match(shot.scene, detections, Ground(part(everything, there), system("moon")), ask, options)
        refused = other.placed is None
    off = error(outcome, shot, everything)
    return Told(None if math.isnan(off) else round(off, 4), windows, round(seconds, 2), refused)


def interval(right: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    if not of:
        return 0.0, 1.0
    z, p = 1.96, right / of
    middle, half = p + z * z / (2 * of), z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    return max(0.0, middle - half) / (1 + z * z / of), (middle + half) / (1 + z * z / of)


def share(right: int, of: int) -> str:
    low, high = interval(right, of)
    return f"{right} of {of}, {right / max(of, 1):.0%} ({low:.0%}–{high:.0%})"


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("index", type=Path, nargs="?", default=Path("indexes/moon_box-trained"))
    parser.add_argument("--scenes", type=int, default=60, help="of relief; 0: none")
    parser.add_argument("--optical", type=int, default=60, help="of the optical mosaic; 0: none")
    parser.add_argument("--control", type=int, default=30, help="scenes also asked without their ground")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="keep what came of each scene here, and use what is there")
    parser.add_argument("--frozen", type=Path, help="an index of the same views by a frozen backbone")
    options = parser.parse_args()
    if not MOON.is_dir():
        sys.exit(f"{MOON} is absent")
    import torch

    torch.set_num_threads(options.threads)
    from crater_ray.retrieve import Index

    rows, keys = [], {}
    turned = MatchOptions(image=Path("scene.png"))
    ways = [("trained", "relief under any sun, trained backbone", options.index, options.scenes, turned)]
    if options.frozen:
        ways.append(("frozen", "the same, frozen backbone", options.frozen, options.scenes, turned))
    if options.optical:
        with redirect_stdout(sys.stderr):
            slopes = slopes_indexed()
        high_sun = turned.model_copy(update=HIGH_SUN)
        ways.append(
            (
                "optical",
                "optical mosaic by slopes, backbone difference_of_gaussians",
                slopes,
                options.optical,
                high_sun,
            )
        )
    for slug, name, path, count, asked in ways:
        if not count:
            continue
        index = Index(path, threads=options.threads)
        scenes = (optical if slug == "optical" else shots)(count, entries(index), options.seed)
        kept = options.keep and options.keep / f"{slug}-{options.seed}.json"
        told = measure(index, scenes, asked, options.control, kept)
        errors = np.array([one.error for one in told if one.error is not None])
        right, wrong = int((errors <= NEAR).sum()), int((errors > NEAR).sum())
        without = [one.refused for one in told if one.refused is not None]
        rows.append(
            (
                f"{name}; {len(entries(index)):,} craters",
                share(right, count),
                f"{np.median(errors):.3f}" if right else "",
                f"{wrong} of {count}",
                share(without.count(False), len(without)),
                f"{np.median([one.windows for one in told]):.0f}",
                f"{np.median([one.seconds for one in told]):.1f}",
            )
        )
        keys |= {f"{slug}_right": right / count}
        keys |= {f"{slug}_false": (wrong + without.count(False)) / (count + len(without))}
    columns = (
        "scenes",
        f"right: residual <= {NEAR} D",
        "residual, median, D",
        "placed wrongly",
        "placed, though the index has not their ground",
        "windows",
        "seconds",
    )
    wanted = {"trained_right": ">= 0.90", "trained_false": "<= 0.01", "optical_right": ">= 0.60"}
    notes = (
        f"relief: {SIDE} pixels a side, {SCALES[0]:g} to {SCALES[1]:g} km a pixel, lit from anywhere; "
        f"optical: {DEGREES[0]:g} to {DEGREES[1]:g} degrees wide at the mosaic's own scale; all turned "
        f"anyhow, with {CRATERS} craters or more of {LEAST:g} pixels; Wilson's 95 % intervals",
    )
    show(Report("Images matched", columns, rows, keys, wanted, notes), options, torch=torch.__version__)


if __name__ == "__main__":
    main()
