"""The consumers compute on the body that the index or their option names, and on no other in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crater_ray.errors import CraterRayError, UserError
from crater_ray.testing import FakeIndex
from crater_ray_catalogue.analogues import Analogues
from crater_ray_catalogue.dedup import Dedup
from crater_ray_catalogue.match import Match

from .conftest import Painted, rows_of_two

MARS, MOON = 3396190.0, 1737400.0


def index(body: str) -> FakeIndex:
    return FakeIndex(Painted(rows_of_two(count=20, lone=5), body))


@pytest.mark.parametrize(
    ("consumer", "options"),
    [(Dedup, {}), (Analogues, {"classes": 3}), (Match, {"image": "x.tif", "catalogue": "a"})],
)
def test_a_body_that_nothing_names_is_asked_for(
    tmp_path: Path, consumer: Any, options: dict[str, Any]
) -> None:
    silent = index("")
    with pytest.raises(UserError, match=r'which body .* option body, as body = "mars"'):
        consumer(**options)(silent, silent.neighbours(), tmp_path)
    mars = index("mars")
    with pytest.raises(CraterRayError, match=r"the index .*\"mars\" .3396.* and option body = \"moon\""):
        consumer(body="moon", **options)(mars, mars.neighbours(), tmp_path)


@pytest.mark.parametrize(
    ("said", "option", "radius"), [("mars", None, MARS), ("", "mars", MARS), ("moon", None, MOON)]
)
def test_distances_are_those_of_the_body(
    tmp_path: Path, said: str, option: str | None, radius: float
) -> None:
    rows = [("A", "a", 0.0, 0.0, 20.0, 1), ("B", "b", 0.0, 0.1, 20.0, 1)]
    one = FakeIndex(Painted(rows, said))
    Dedup(body=option, views=False)(one, one.neighbours(), tmp_path)
    found = (tmp_path / "one_to_one.csv").read_text()
    assert f"{np.radians(0.1) * radius / 1e3 / 20:.2f} D apart" in found
