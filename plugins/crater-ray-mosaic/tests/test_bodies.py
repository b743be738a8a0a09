"""The column `body`: as the options say, else as the raster's CRS or radius tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crater_ray.errors import UserError
from crater_ray_mosaic.bodies import body_of, system
from crater_ray_mosaic.mosaic import mosaic

Paint = Callable[..., Path]


@pytest.mark.filterwarnings("ignore:.*used for its coordinates alone")
@pytest.mark.parametrize(
    ("crs", "options", "body"),
    [
        ("IAU_2015:49900", {}, "mars"),
        ("IAU_2015:49910", {}, "mars"),
        ("ESRI:104903", {}, "moon"),
        ("+proj=longlat +R=1737400", {}, "moon"),
        ("+proj=longlat +a=3396190 +b=3376200", {}, "mars"),
        ("+proj=longlat +R=3389500", {}, "mars"),
        ("+proj=stere +lat_0=90 +R=2439700", {}, "mercury"),
        ("+proj=longlat +R=1737400", {"body": "Moon"}, "Moon"),
        ("EPSG:4326", {"body": "mars"}, "mars"),
        ("EPSG:4326", {"radius_km": 3396.19}, "mars"),
        ("+proj=longlat +R=3396190", {"preset": "robbins_mars"}, "mars"),
        (None, {"radius_km": 255}, "vesta"),
        ("+proj=longlat +R=1000000", {}, ""),
    ],
)
def test_the_column_is_filled(
    paint: Paint, catalogue: Callable[..., Path], crs: str | None, options: dict[str, Any], body: str
) -> None:
    metres = 30000.0 if crs and ("49910" in crs or "stere" in crs) else 1.0
    raster = paint("x.tif", lambda lat, lon: lat + lon, -10, 10, 0.5, 40, 40, crs=crs, metres=metres)
    columns = dict(lat_column="lat", lon_column="lon_e180", diameter_column="diam_km", id_column="crater_id")
    reader = mosaic(
        raster=raster,
        catalogue=catalogue([("a", 88.0 if crs and "stere" in crs else 1.0, 2.0, 60.0)]),
        **columns,
        **options,
    )
    assert reader.body == body
    item = next(item for part in reader.parts() for item in reader.read(part))
    assert item.columns["body"] == body


def test_names_count_where_the_radius_agrees() -> None:
    assert body_of(3396.0, "Moon_2000", "D_Mars_2000") == "mars"
    assert body_of(1560.8, "Europa (2015)") == "europa"  # not the asteroid 52 Europa
    assert body_of(581.0, "a map") == ""  # Ariel, or Umbriel
    assert body_of(581.0, "GCS_Umbriel_2000") == "umbriel"
    with pytest.raises(UserError, match="no body is named"):
        system("")
