"""Where no crater or no ground is left, the line says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crater_ray.errors import BadImage, ReaderError
from crater_ray_mosaic.mosaic import mosaic
from crater_ray_mosaic.pose import Pose
from crater_ray_mosaic.raster import Raster
from crater_ray_mosaic.rendering import Rendering
from crater_ray_mosaic.view import render


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"min_diameter_km": 50}, "none of the catalogue's 2 craters is left: min_diameter_km leaves out 2"),
        (
            {"max_diameter_km": 25, "box": (10, -5, 20, 5)},
            "max_diameter_km leaves out 1, box leaves out 1",
        ),
    ],
)
def test_which_option_leaves_out_how_many(
    paint: Callable[..., Path], catalogue: Callable[..., Path], more: dict[str, Any], words: str
) -> None:
    raster = paint("r.tif", lambda a, b: a + b)
    craters = catalogue([("a", 0.0, 0.0, 20.0), ("b", 0.0, 15.0, 40.0)])
    with pytest.raises(ReaderError, match=words):
        mosaic(raster=raster, catalogue=craters, preset="hkpolyu", **more).parts()


def test_craters_off_the_raster(paint: Callable[..., Path], catalogue: Callable[..., Path]) -> None:
    raster = paint("r.tif", lambda a, b: a + b, 0, 10, 0.1, 100, 100)
    craters = catalogue([("a", 50.0, -20.0, 20.0), ("b", 60.0, -30.0, 20.0)])
    with pytest.raises(ReaderError, match=r"none of the 2 craters lies on r\.tif: .*50\.00 to 60\.00"):
        mosaic(raster=raster, catalogue=craters, preset="hkpolyu").parts()


def test_a_basin_wider_than_the_disc(paint: Callable[..., Path]) -> None:
    raster = Raster(paint("r.tif", lambda a, b: np.sin(np.radians(9 * b)) + a))
    with pytest.raises(BadImage, match=r"beyond the limb: .* wider than the disc"):
        render(raster, Pose(0, 0, 2200), Rendering())
