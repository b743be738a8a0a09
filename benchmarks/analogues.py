"""Craters of one form, scored without labels: by depth over diameter and rim slope of what ranks first.

    python benchmarks/analogues.py [indexes/moon20k-default] [--queries 1000] [--json]

The index is of benchmarks/moon20k.toml. Depths are HKPolyU's (rows of Head2010 dropped), joined to the
index's craters one-to-one within 0.25 D and a diameter ratio of 1.25. Slopes are of the DEM: the steepest
part of the mean profile between half the radius and the rim. A query's error is the median over its first
ten; the ranking by diameter alone takes the ten nearest in diameter. Nothing within one diameter of a query
counts.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from dedup import MOON, RADIUS, SECOND, Table, true_pairs
from table import Report, arguments, show

from crater_ray.retrieve import Index
from crater_ray_catalogue import AnaloguesOptions
from crater_ray_catalogue.analogues import same_place
from crater_ray_catalogue.entries import entries
from crater_ray_catalogue.morphology import forms, likeness
from crater_ray_catalogue.proposals import Places, unit
from crater_ray_mosaic.raster import Raster

TOP, DRAWS = 10, 2000
RADII, TURNS = np.linspace(0.5, 1.05, 12), 24  # of the profile, in crater radii; directions


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("index", type=Path, nargs="?", default=Path("indexes/moon20k-default"))
    parser.add_argument("--queries", type=int, default=1000, help="craters asked, at most")
    options = parser.parse_args()
    if not MOON.is_dir():
        sys.exit(f"{MOON} is absent")
    index = Index(options.index)
    everything = entries(index)
    form = forms(index, everything)
    depth = depths(Table(everything.names, everything.places))
    known = np.flatnonzero(np.isfinite(depth))
    p = everything.places
    places = Places(p.lat[known], p.lon[known], p.diameter[known])
    form, depth = form[known], depth[known]
    slope = slopes(places)
    asked = np.sort(np.random.default_rng(0).permutation(len(known))[: options.queries])
    logs, size = np.log(places.diameter), AnaloguesOptions().size_penalty

    def alike(row: int) -> Any:
        return likeness(form, logs, [row], [], 0.0)

    def by_diameter(row: int) -> Any:
        return -np.abs(logs - logs[row])

    ways = {
        "diameter alone": by_diameter,
        "form alone": alike,
        "form and diameter, as `analogues` ranks": lambda row: alike(row) + size * by_diameter(row),
        "no order": lambda row: np.random.default_rng(row).random(len(known)),
    }
    measures = {"d/D": depth, "rim slope, °": slope}
    errors = {way: first_ten(score, asked, places, measures) for way, score in ways.items()}
    show(report(errors, list(measures), len(known)), options, numpy=version("numpy"))


def depths(table: Table) -> Any:
    """(N,) depth over diameter of HKPolyU's counterpart, NaN without one."""
    with (MOON / SECOND).open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] != "Head2010" and row["depth_m"]]
    lat, lon, diameter, depth = (
        np.array([float(row[name]) for row in rows]) for name in ("lat", "lon_e180", "diam_km", "depth_m")
    )
    other = Table([row["crater_id"] for row in rows], Places(lat, lon, diameter))
    of = dict(zip(other.ids, (depth / 1000 / diameter).tolist(), strict=True))
    pairs = {a: of[b] for a, b in true_pairs(table, other) if of[b] > 0}
    return np.array([pairs.get(name, math.nan) for name in table.ids])


def slopes(places: Places) -> Any:
    """(N,) degrees: the steepest step of the mean profile from half the radius to the rim."""
    raster = Raster(MOON / "moon_gld100_64ppd_50s50n.tif")
    found = np.full(len(places), np.nan)
    turn = np.linspace(0, 2 * np.pi, TURNS, endpoint=False)
    rows = zip(places.lat.tolist(), places.lon.tolist(), places.diameter.tolist(), strict=True)
    for number, (lat, lon, diameter) in enumerate(rows):
        reach = RADII[:, None] * diameter / 2 / RADIUS  # radians
        north, east = reach * np.cos(turn), reach * np.sin(turn)
        lats = lat + np.degrees(north)
        east = np.degrees(east) / math.cos(math.radians(lat))
        height, outside = raster.sample(lon, lats, east, raster.frame.kilometres)
        if not outside.any():
            profile = np.nanmean(height, 1) * raster.frame.scale
            steps = np.diff(profile) / (np.diff(RADII) * diameter / 2 * 1000)
            found[number] = math.degrees(math.atan(float(np.nanmax(steps))))
    return found


def first_ten(score: Any, asked: Any, places: Places, measures: Mapping[str, Any]) -> dict[str, Any]:
    """Measure -> (Q,) the median error of the first ten."""
    spots = unit(places)
    errors: dict[str, list[float]] = {name: [] for name in measures}
    for row in asked.tolist():
        points = np.array(score(row), np.float64)
        points[same_place(spots, places.diameter, [row], RADIUS, 1.0)] = -np.inf
        first = np.argsort(-points, kind="stable")[:TOP]
        for name, values in measures.items():
            errors[name].append(float(np.nanmedian(np.abs(values[first] - values[row]))))
    return {name: np.array(some) for name, some in errors.items()}


def gain(errors: Any, base: Any) -> tuple[float, float, float]:
    """1 - median over the base's median, and its 95 % interval: a paired bootstrap over queries."""
    keep = np.isfinite(errors) & np.isfinite(base)
    errors, base = errors[keep], base[keep]
    drawn = np.random.default_rng(0).integers(0, len(errors), (DRAWS, len(errors)))
    many = 1 - np.median(errors[drawn], 1) / np.median(base[drawn], 1)
    low, high = np.percentile(many, [2.5, 97.5])
    return float(1 - np.median(errors) / np.median(base)), float(low), float(high)


def report(errors: Mapping[str, Mapping[str, Any]], measures: list[str], known: int) -> Report:
    base = errors["diameter alone"]
    rows, keys = [], {}
    for way, told in errors.items():
        row: list[object] = [way]
        for name in measures:
            middle, low, high = gain(told[name], base[name])
            row += [f"{np.nanmedian(told[name]):.4f}", f"{middle:+.1%} ({low:+.1%} to {high:+.1%})"]
            if "analogues" in way:
                slug = "depth" if name == "d/D" else "slope"
                keys |= {f"{slug}_gain": middle, f"{slug}_gain_low": low}
        rows.append(row)
    columns = ["ranked by"]
    for name in measures:
        columns += [f"error of {name}", "below diameter alone"]
    notes = (
        f"{len(next(iter(base.values()))):,} queries among {known:,} craters whose depth is known; the "
        "median of each one's first ten, then the median over queries; 95 % paired bootstrap",
    )
    wanted = {"depth_gain": ">= 0.10", "depth_gain_low": "> 0"}
    return Report("Morphological analogues", columns, rows, keys, wanted, notes)


if __name__ == "__main__":
    main()
