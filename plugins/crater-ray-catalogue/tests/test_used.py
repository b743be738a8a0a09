"""Options of consumers and of two catalogues that the others leave without a use are refused."""

from __future__ import annotations

from typing import Any

import pytest

from crater_ray.errors import ConfigError
from crater_ray.plugins import registry
from crater_ray.plugins.specs import Kind

TWO = {"raster": "r.tif", "catalogue": "a.csv", "second_catalogue": "b.csv"}


@pytest.mark.parametrize(
    ("kind", "name", "options", "why"),
    [
        (
            "consumer",
            "analogues",
            {"classes": 3, "unlike": ["a"]},
            "unlike is not used: like names no example",
        ),
        ("consumer", "analogues", {"like": ["a"], "seed": 3}, "seed is not used: nothing is sorted"),
        (
            "consumer",
            "match",
            {"image": "i", "candidates": "c", "illumination": "high_sun"},
            "illumination is not used",
        ),
        ("reader", "catalogues", {**TWO, "sun_elevation": 9.0}, "sun_elevation is not used"),
        ("reader", "catalogues", {**TWO, "second_sun_elevation": 9.0}, "second_sun_elevation is not used"),
    ],
)
def test_what_is_not_used_is_refused(kind: Kind, name: str, options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        registry().ref(kind, name, options)


def test_a_sun_of_either_raster_is_used() -> None:
    registry().ref("reader", "catalogues", {**TWO, "second_kind": "dem", "sun_elevation": 9.0})
    registry().ref(
        "reader", "catalogues", {**TWO, "kind": "dem", "second_kind": "image", "sun_elevation": 9.0}
    )
