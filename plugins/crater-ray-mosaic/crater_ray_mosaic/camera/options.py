"""The table [reader.query_camera]: what may happen to a query view."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from crater_ray.plugins import Options

Photometry = Literal["lambert", "lommel_seeliger", "lunar_lambert"]
Share = Annotated[float, Field(ge=0, le=1)]


def a_pair(value: Any) -> Any:
    if isinstance(value, str | bytes) or not hasattr(value, "__len__") or len(value) != 2:
        raise ValueError("a pair of numbers is asked for: write [least, most]")
    return value


def _within(least: float, most: float, why: str = "") -> AfterValidator:
    """Both ends of a range lie so."""

    def check(pair: tuple[float, float]) -> tuple[float, float]:
        if not pair[0] <= pair[1]:
            raise ValueError("write [least, most]: the first number must not exceed the second")
        if not least <= pair[0] <= pair[1] <= most:
            raise ValueError(why or f"both numbers lie from {least:g} to {most:g}")
        return pair

    return AfterValidator(check)


Pair = Annotated[tuple[float, float], BeforeValidator(a_pair)]
_Part = Annotated[Pair, _within(0, 1)]
_Tilt = _within(0, 50, "a tilt is 50 degrees at most: beyond, more ground is seen than is sampled")
_Clipped = _within(0, 0.4, "of the pixels 0.4 at most may be black, and as many white")


class CameraOptions(Options):
    """A share is of the query views, each effect drawn by itself; a range is of the views that have it."""

    share: Share = 1.0  # taken by a camera; the others as without this table
    shadows: Share = 0.7  # DEM: shadows cast by relief, with the penumbra of the sun's disc
    photometry: tuple[Photometry, ...] = Field(
        ("lambert", "lommel_seeliger", "lunar_lambert"), min_length=1
    )  # DEM: laws of reflection to draw from
    albedo: Share = 0.6  # DEM: bright and dark ground, fractal, or of query_albedo where that is given
    albedo_strength: Annotated[Pair, _within(0, 2)] = (0.05, 0.4)  # deviation of its natural logarithm
    rays: Share = 0.08  # DEM: a bright halo with rays
    tilted: Share = 0.5  # seen from the side
    tilt: Annotated[Pair, _Tilt] = (5.0, 45.0)  # degrees from straight down
    blur: Share = 0.5
    blur_pixels: Annotated[Pair, _within(0, 20)] = (0.3, 1.5)  # standard deviation, of a view 112 pixels wide
    uneven: Share = 0.4  # vignetting, or light that falls off to one side
    uneven_strength: _Part = (0.1, 0.5)  # of the light, from middle to corner or side to side
    response: Share = 0.7  # another curve than a linear one, and clipped ends
    gamma: Annotated[Pair, _within(0.1, 10)] = (0.6, 1.7)
    clipped: Annotated[Pair, _Clipped] = (0.0, 0.1)  # of the pixels, black and white each
    noise: Share = 0.6
    noise_strength: _Part = (0.01, 0.08)  # of the range of greys
    grain: Share = 0.3  # noise of film: of several pixels' size, strongest in middle greys
    grain_strength: _Part = (0.02, 0.1)
    lines: Share = 0.1  # dropped lines, or strips of other brightness
    jpeg: Share = 0.3
    jpeg_quality: Annotated[Pair, _within(1, 100, "JPEG qualities are 1 to 100")] = (20.0, 90.0)
    contrast: Annotated[Pair, _within(0.02, 1)] = (0.5, 1.0)  # of the whole range of greys
