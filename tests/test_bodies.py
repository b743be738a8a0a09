"""Bodies of the IAU are those of PROJ, and distances those on their spheres."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pyproj import CRS, Geod
from pyproj.database import query_crs_info

from crater_ray.bodies import SPHERES, crs_of, distance_km, radius_km
from crater_ray.errors import QueryError
from crater_ray.filters import mask
from crater_ray.request import Near


def test_every_body_is_as_proj_has_it() -> None:
    kind = " (2015) - Sphere / Ocentric"
    found = query_crs_info(auth_name="IAU_2015", pj_types="GEOGRAPHIC_2D_CRS")
    names = {one.name.removesuffix(kind).lower(): int(one.code) for one in found if one.name.endswith(kind)}
    assert {body: code for body, (code, _) in SPHERES.items()} == names
    for body, (_, radius) in SPHERES.items():
        ellipsoid = CRS(crs_of(body)).ellipsoid
        assert ellipsoid is not None
        assert ellipsoid.semi_major_metre / 1000 == pytest.approx(radius)
    assert radius_km(" Moon ") == 1737.4
    assert radius_km("nowhere") is radius_km(None) is crs_of("") is None


def test_distances_are_those_of_a_sphere() -> None:
    random = np.random.default_rng(0)
    lats, lons = random.uniform(-90, 90, 50), random.uniform(-180, 180, 50)
    sphere = Geod(a=1737400, b=1737400)
    _, _, expected = sphere.inv(np.full(50, 170.0), np.full(50, -43.0), lons, lats)
    np.testing.assert_allclose(distance_km(-43.0, 170.0, lats, lons, 1737.4), expected / 1000, rtol=1e-6)
    assert distance_km(0, 179.9, np.array([0.0]), np.array([-179.9]), 1737.4)[0] == pytest.approx(
        6.0646, abs=1e-3
    )


def test_near_is_measured_on_each_item_s_own_body() -> None:
    table = pa.table(
        {
            "lat": [0.0, 0.0, 0.0, None, 0.0],
            "lon": [1.0, 1.0, 1.0, 0.0, 1.0],
            "body": ["moon", "mars", "nowhere", "moon", None],
        }
    )
    assert mask(table, (), None, Near(lat=0, lon=0, km=40)).tolist() == [True, False, False, False, False]
    assert mask(table, (), None, Near(lat=0, lon=0, km=60)).tolist() == [True, True, False, False, False]
    with pytest.raises(QueryError, match="no column 'body' says of which body; use box"):
        mask(table.drop(["body"]), (), None, Near(lat=0, lon=0, km=60))
    with pytest.raises(QueryError, match="the IAU knows no body 'nowhere'"):
        mask(table.slice(2, 1), (), None, Near(lat=0, lon=0, km=60))
