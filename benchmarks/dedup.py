"""Two catalogues of the Moon merged though they disagree: F1 and calibration of `crater-ray consume dedup`.

    python benchmarks/dedup.py [--keep indexes/dedup] [--box W S E N] [--jitter 0.5 1 2] [--json]

Head et al. and Povilaitis et al. against HKPolyU (its rows of Head2010 dropped). True pairs: one-to-one
within 0.25 D and a diameter ratio of 1.25, as published. Then HKPolyU is moved by `jitter` diameters,
each entry in a direction of its own, and its views are lit from elsewhere.

Views "at its own places": cut where the moved entry says, off the crater. Views "of its own network": the
second catalogue's pictures are off as its coordinates are, so that they still show the crater.
Nothing is fitted on the truth; "nearest first" alone is given the cut-off that is best for it.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from table import Report, arguments, show

from crater_ray_catalogue.decide import decide
from crater_ray_catalogue.dedup import part
from crater_ray_catalogue.entries import Entries, entries
from crater_ray_catalogue.evidence import appearance
from crater_ray_catalogue.linkage import assigned, learn
from crater_ray_catalogue.proposals import CandidatePairs, Places, propose
from crater_ray_catalogue.scores import scores

ROOT = Path(__file__).resolve().parents[1]
MOON = ROOT.parent / "shared" / "data" / "moon"
RADIUS, NEAR, RATIO, REACH = 1737.4, 0.25, 1.25, 3.0
SLUG = str.maketrans({" ": "_", ",": None, ";": None})
SPREAD = "; anywhere within it"  # rows where places are moved by up to the jitter and not by all of it
SECTORS = ((-180.0, -30.0, -150.0, 0.0), (60.0, 0.0, 90.0, 30.0))  # where HKPolyU is whole
FIRST, SECOND = "moon_craters_head_povilaitis.csv", "moon_craters_hkpolyu_ge3km_53of72sectors.csv"
JOB = """
out = "{out}"
[reader]
name = "catalogues"
raster = "{moon}/moon_gld100_64ppd_50s50n.tif"
kind = "dem"
body = "moon"
catalogue = "{first}"
preset = "head_povilaitis"
second_catalogue = "{second}"
second_preset = "hkpolyu"
second_sun_azimuth = 60.0
second_sun_elevation = 20.0
[backbone]
name = "dinov2_offline"
cache = "tokens"
[cluster]
threads = {threads}
"""


@dataclass(frozen=True)
class Table:
    """N rows of a catalogue's file."""

    ids: Sequence[str]
    places: Places


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="keep indexes here, and use what is there")
    parser.add_argument(
        "--box", type=float, nargs=4, action="append", help="default: two sectors of 30 degrees"
    )
    parser.add_argument("--jitter", type=float, nargs="*", default=[0.5, 1.0, 2.0], help="diameters")
    parser.add_argument("--min-diameter", type=float, default=8.0, help="of the first catalogue, km")
    parser.add_argument("--set", action="append", default=[], help="override of the job, as another backbone")
    parser.add_argument("--no-views", action="store_true", help="geometry alone: no index, seconds")
    options = parser.parse_args()
    if not MOON.is_dir():
        sys.exit(f"{MOON} is absent")
    boxes = [tuple(box) for box in options.box or SECTORS]
    first = read(FIRST, boxes, options.min_diameter)
    second = read(SECOND, boxes, options.min_diameter / RATIO)
    truth = true_pairs(first, second)
    found: dict[str, dict[float, tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        root = (options.keep or Path(folder)).resolve()
        root.mkdir(parents=True, exist_ok=True)
        for jitter in options.jitter:
            for name, pair in measure(root, jitter, first, second, truth, options).items():
                found.setdefault(name, {})[jitter] = pair
    show(report(found, first, second, truth, options.jitter), options, torch=version("torch"))


def read(name: str, boxes: Sequence[Sequence[float]], least: float) -> Table:
    with (MOON / name).open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] != "Head2010" or name == FIRST]
    lat, lon, diameter = (
        np.array([float(row[column]) for row in rows]) for column in ("lat", "lon_e180", "diam_km")
    )
    keep = np.zeros(len(rows), bool)
    for west, south, east, north in boxes:
        keep |= (lon >= west) & (lon <= east) & (lat >= south) & (lat <= north) & (diameter >= least)
    kept = [rows[row]["crater_id"] for row in np.flatnonzero(keep).tolist()]
    return Table(kept, Places(lat[keep], lon[keep], diameter[keep]))


def true_pairs(first: Table, second: Table) -> set[tuple[str, str]]:
    """One-to-one within NEAR diameters of the first and RATIO."""
    pairs = propose(first.places, second.places, RADIUS, 2 * NEAR, RATIO)
    own = pairs.distance * np.sqrt(second.places.diameter[pairs.second] / first.places.diameter[pairs.first])
    near = own <= NEAR
    a, b = pairs.first[near], pairs.second[near]
    once = (np.bincount(a, minlength=len(first.ids))[a] == 1) & (
        np.bincount(b, minlength=len(second.ids))[b] == 1
    )
    return {(first.ids[i], second.ids[j]) for i, j in zip(a[once].tolist(), b[once].tolist(), strict=True)}


def moved(table: Table, jitter: float, *, within: bool = False) -> Table:
    """Every place `jitter` diameters off, in a direction that only its number decides.

    within: anywhere in the circle of that radius, evenly.
    """
    p = table.places
    draw = np.random.default_rng(7)
    turn = draw.uniform(0, 2 * np.pi, len(p))
    share = np.sqrt(draw.uniform(0, 1, len(p))) if within else 1.0
    reach = np.degrees(share * jitter * p.diameter / RADIUS)
    lon = p.lon + reach * np.cos(turn) / np.cos(np.radians(p.lat))
    return Table(table.ids, Places(p.lat + reach * np.sin(turn), (lon + 180) % 360 - 180, p.diameter))


def measure(
    root: Path, jitter: float, first: Table, second: Table, truth: set[tuple[str, str]], options: Any
) -> dict[str, tuple[float, float]]:
    """F1 and expected calibration error of each method."""
    off = moved(second, jitter)
    found = {}
    for way, table in ((SPREAD, moved(second, jitter, within=True)), ("", off)):
        pairs = propose(first.places, table.places, RADIUS, REACH, RATIO)
        right = is_true(pairs, first.ids, table.ids, truth)
        found[f"nearest first, best cut-off{way}"] = nearest(pairs, right, len(truth)), float("nan")
        sizes = (len(first.ids), len(second.ids))
        learnt = decide(*sizes, pairs, None, reach=REACH, ratio=RATIO, certain=0.5)
        found[f"geometry, learnt{way}"] = judged(learnt.same, learnt.linkage.probability, right, len(truth))
    if options.no_views:
        return found
    for name, shown in (("at its own places", off), ("of its own network", second)):
        index, neighbours, out = indexed(root, first, shown, options)
        everything = entries(index)
        sides = [
            placed(part(everything, np.array([c == side for c in everything.catalogue], bool)), table)
            for side, table in (("a", first), ("b", off))
        ]
        pairs = propose(sides[0].places, sides[1].places, RADIUS, REACH, RATIO)
        right = is_true(pairs, sides[0].names, sides[1].names, truth)
        score = scores(index, neighbours, *sides, pairs, out / "scores")
        ends = np.stack([pairs.first, pairs.second + len(sides[0])], 1)
        alone = appearance(pairs, score, REACH)
        linkage = learn([alone], ends, len(sides[0]))
        same = assigned(linkage, ends, bipartite=True) & (linkage.probability >= 0.5)
        found[f"views {name}"] = judged(same, linkage.probability, right, len(truth))
        sizes = (len(sides[0]), len(sides[1]))
        both = decide(*sizes, pairs, score, reach=REACH, ratio=RATIO, certain=0.5)
        found[f"geometry and views {name}"] = judged(both.same, both.linkage.probability, right, len(truth))
    return found


def indexed(root: Path, first: Table, second: Table, options: Any) -> tuple[Any, Any, Path]:
    """An index of both catalogues' views, its neighbour table, and the consumer's folder."""
    import pyarrow.dataset as ds

    from crater_ray import load_job
    from crater_ray.jobs import consume, index
    from crater_ray.retrieve import Index
    from crater_ray_catalogue.stage import key

    paths = [write(root, table) for table in (first, second)]
    job_file = root / f"{key([path.name for path in paths], options.set)}.toml"
    names = {"out": job_file.stem, "first": paths[0].name, "second": paths[1].name}
    job_file.write_text(JOB.format(**names, moon=MOON, threads=options.threads))
    job = load_job(job_file, options.set)
    index.run(job)
    out = consume.run("dedup", job).parent
    [table] = (job.out / "neighbours").glob("*.parquet")
    return Index(job.out), ds.dataset(table), out


def write(root: Path, table: Table) -> Path:
    """The catalogue as a CSV named by what it holds."""
    from crater_ray_catalogue.stage import key

    p = table.places
    rows = list(zip(table.ids, *(a.round(6).tolist() for a in (p.lat, p.lon, p.diameter)), strict=True))
    path = root / f"{key(rows)}.csv"
    if not path.exists():
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("crater_id", "lat", "lon_e180", "diam_km"), *rows])
    return path


def placed(some: Entries, table: Table) -> Entries:
    """The entries with the table's places: what a network says, whatever its pictures show."""
    rows = {id: row for row, id in enumerate(table.ids)}
    at = np.array([rows[name] for name in some.names], np.int64)
    p = table.places
    return Entries(
        some.ids,
        some.names,
        some.catalogue,
        Places(p.lat[at], p.lon[at], p.diameter[at]),
        some.views,
        some.body,
    )


def is_true(
    pairs: CandidatePairs, first: Sequence[str], second: Sequence[str], truth: set[tuple[str, str]]
) -> Any:
    both = zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    return np.array([(first[i], second[j]) in truth for i, j in both], bool)


def nearest(pairs: CandidatePairs, right: Any, truths: int) -> float:
    """F1 of pairs taken nearest first, each entry once, up to the cut-off that gives the best."""
    ones: set[int] = set()
    others: set[int] = set()
    best, taken, hits = 0.0, 0, 0
    for row in np.argsort(pairs.distance, kind="stable").tolist():
        one, other = int(pairs.first[row]), int(pairs.second[row])
        if one in ones or other in others:
            continue
        ones.add(one)
        others.add(other)
        taken, hits = taken + 1, hits + bool(right[row])
        best = max(best, 2 * hits / (taken + truths))
    return best


def judged(same: Any, probability: Any, right: Any, truths: int) -> tuple[float, float]:
    """F1 of the pairs taken, and the expected calibration error of all, in ten bins."""
    f1 = 2 * (same & right).sum() / max(same.sum() + truths, 1)
    bins = np.minimum((probability * 10).astype(int), 9)
    error = sum(
        (bins == b).mean() * abs(probability[bins == b].mean() - right[bins == b].mean())
        for b in np.unique(bins)
    )
    return float(f1), float(error)


def report(
    found: dict[str, dict[float, tuple[float, float]]],
    first: Table,
    second: Table,
    truth: set[tuple[str, str]],
    jitters: Sequence[float],
) -> Report:
    rows, keys = [], {}
    for name, told in found.items():
        f1 = [f"{told[jitter][0]:.3f}" for jitter in jitters]
        error = ["" if np.isnan(told[jitter][1]) else f"{told[jitter][1]:.3f}" for jitter in jitters]
        rows.append((name, *f1, *error))
        for jitter in jitters:
            slug = f"{name} {jitter:g}D".translate(SLUG)
            keys[f"f1_{slug}"] = told[jitter][0]
            if not np.isnan(told[jitter][1]):
                keys[f"ece_{slug}"] = told[jitter][1]
    wanted = {}
    for name in found:
        if name.startswith("geometry and views") or (len(found) == 4 and name == "geometry, learnt"):
            slug = name.translate(SLUG)
            asked = {"1D": ">= 0.93", "2D": ">= 0.80"}
            wanted |= {f"f1_{slug}_{d}": a for d, a in asked.items() if f"f1_{slug}_{d}" in keys}
            ends = [f"ece_{slug}_{jitter:g}D" for jitter in jitters]
            wanted |= {key: "<= 0.05" for key in ends if key in keys}
    columns = [f"{what}, {jitter:g} D" for what in ("F1", "ECE") for jitter in jitters]
    notes = (
        f"{len(first.ids):,} entries of Head and Povilaitis, {len(second.ids):,} of HKPolyU, {len(truth):,} "
        f"true pairs; proposed within {REACH:g} D and a ratio of {RATIO:g}",
        "nothing is fitted on the truth, except for the cut-off of nearest first",
    )
    return Report("Catalogues merged", ["decided by", *columns], rows, keys, wanted, notes)


if __name__ == "__main__":
    main()
