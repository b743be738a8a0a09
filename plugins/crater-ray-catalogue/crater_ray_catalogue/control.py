"""A match for others to use: tie points, a control network, the transform, and the image georeferenced."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from crater_ray.files import whole_file, write_whole
from crater_ray.images import turned
from crater_ray_catalogue.candidates import Detections
from crater_ray_catalogue.ground import Ground
from crater_ray_catalogue.matching import Outcome
from crater_ray_catalogue.registration import Georeference, TiePoints
from crater_ray_catalogue.scene import turn_of


def tie_table(
    placed: Georeference,
    ties: TiePoints,
    detections: Detections,
    ground: Ground,
    verified: dict[int, int | None],
) -> pd.DataFrame:
    """A row a tie point. x, y from the middle of the upper left pixel; residuals after the fit.

    judged: entry -> its rank among the index's answers, where it was asked for.
    """
    places = ground.entries.places
    x, y = detections.x[ties.detections], detections.y[ties.detections]
    expected = placed.pixels(places.lat[ties.entry], places.lon[ties.entry])
    off = np.hypot(x - expected[0], y - expected[1])
    rank = [verified.get(entry) for entry in ties.entry.tolist()]
    return pd.DataFrame(
        {
            "id": [ground.entries.names[entry] for entry in ties.entry.tolist()],
            "x": np.round(x, 2),
            "y": np.round(y, 2),
            "diameter_px": np.round(detections.diameter[ties.detections], 2),
            "lat": places.lat[ties.entry],
            "lon": places.lon[ties.entry],
            "diameter_km": ground.diameter[ties.entry],
            "residual_px": np.round(off, 3),
            "residual_km": np.round(off * placed.scale, 3),
            "residual_d": np.round(off * placed.scale / ground.diameter[ties.entry], 4),
            "rank": pd.array(rank, dtype="Int64"),
        }
    )


def network(ties: pd.DataFrame, image: str, body: str, radius_km: float) -> pd.DataFrame:
    """A row a point, as control networks have them: sample and line from 1, degrees, metres."""
    return pd.DataFrame(
        {
            "point_id": ties["id"],
            "point_type": "Fixed",
            "target": body,
            "latitude": ties["lat"],
            "longitude": ties["lon"] % 360.0,
            "radius_m": radius_km * 1000.0,
            "serial_number": image,
            "sample": ties["x"] + 1.0,
            "line": ties["y"] + 1.0,
            "diameter_px": ties["diameter_px"],
            "residual_px": ties["residual_px"],
        }
    )


def transform_as_dict(placed: Georeference, outcome: Outcome, size: tuple[int, int]) -> dict[str, Any]:
    """The transform as plain numbers."""
    lat, lon = placed.place((size[0] - 1) / 2, (size[1] - 1) / 2)
    first, up = placed.ground(0, 0), placed.ground(0, -1)
    along = placed.ground(1, 0) - first
    return {
        "lat": round(float(lat), 5),
        "lon": round(float(lon), 5),
        "km_per_pixel": round(placed.scale, 6),
        "up_clockwise_from_north_deg": round(placed.rotation, 3),
        "projection": placed.plane.crs.to_wkt(),
        "pixel_to_metres": [
            [1000 * float(along.real), -1000 * float((up - first).real), 1000 * float(first.real)],
            [1000 * float(along.imag), -1000 * float((up - first).imag), 1000 * float(first.imag)],
        ],
        "tie_points": 0 if outcome.ties is None else len(outcome.ties),
        "expected_false": outcome.chance,
    }


def write_transform(path: Path, placed: Georeference, outcome: Outcome, size: tuple[int, int]) -> Path:
    text = json.dumps(transform_as_dict(placed, outcome, size), indent=1) + "\n"
    write_whole(path, text.encode())
    return path


def georeference(image: Path, placed: Georeference, path: Path) -> Path:
    """The image, its own bands and values, upright, as a GeoTIFF on the plane that touches at its middle."""
    (a, b, c), (d, e, f) = transform_as_dict(placed, Outcome(placed, None, (), 0.0, 0, 0), (1, 1))[
        "pixel_to_metres"
    ]
    corner = c - (a + b) / 2, f - (d + e) / 2  # GDAL counts from the upper left pixel's corner
    transform = Affine(a, b, corner[0], d, e, corner[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        turn = turn_of(image)
        with rasterio.open(image) as file:
            high, wide = turned(np.empty((file.height, file.width, 0)), turn).shape[:2]
            profile = {
                "driver": "GTiff",
                "width": wide,
                "height": high,
                "count": file.count,
                "dtype": file.dtypes[0],
                "nodata": file.nodata,
                "compress": "deflate",
                "crs": rasterio.crs.CRS.from_wkt(placed.plane.crs.to_wkt()),
                "transform": transform,
            }
            with whole_file(path) as own, rasterio.open(own, "w", **profile) as out:
                for band in range(1, file.count + 1):
                    out.write(turned(file.read(band), turn), band)
                if ColorInterp.palette in file.colorinterp:
                    out.write_colormap(1, file.colormap(1))
                if ColorInterp.alpha in file.colorinterp:
                    out.colorinterp = file.colorinterp
    return path
