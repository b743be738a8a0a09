"""The table [reader.query_camera]: what may happen to a query view."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from crater_ray.plugins import Options

Photometry = Literal["lambert", "lommel_seeliger", "lunar_lambert"]
Share = Annotated[float, Field(ge=0, le=1)]


def _range(pair: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= pair[0] <= pair[1] <= 100:
        raise ValueError("write [least, most], neither negative, 100 at most")
    return pair


def _tilt(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[1] > 50:
        raise ValueError("a tilt is 50 degrees at most: beyond, more ground is seen than is sampled")
    return pair


def _clipped(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[1] > 0.4:
        raise ValueError("of the pixels 0.4 at most may be black, and as many white")
    return pair


def _quality(pair: tuple[float, float]) -> tuple[float, float]:
    if not 1 <= pair[0] <= pair[1] <= 100:
        raise ValueError("JPEG qualities are 1 to 100")
    return pair


Range = Annotated[tuple[float, float], AfterValidator(_range)]


class CameraOptions(Options):
    """A share is of the query views, each effect drawn by itself; a range is of the views that have it."""

    share: Share = 1.0  # taken by a camera; the others as without this table
    shadows: Share = 0.7  # DEM: shadows cast by relief, with the penumbra of the sun's disc
    photometry: tuple[Photometry, ...] = Field(
        ("lambert", "lommel_seeliger", "lunar_lambert"), min_length=1
    )  # DEM: laws of reflection to draw from
    albedo: Share = 0.6  # DEM: bright and dark ground, fractal, or of query_albedo where that is given
    albedo_strength: Range = (0.05, 0.4)  # standard deviation of its natural logarithm
    rays: Share = 0.08  # DEM: a bright halo with rays
    tilted: Share = 0.5  # seen from the side
    tilt: Annotated[Range, AfterValidator(_tilt)] = (5.0, 45.0)  # degrees from straight down
    blur: Share = 0.5
    blur_pixels: Range = (0.3, 1.5)  # standard deviation, of a view 112 pixels wide
    uneven: Share = 0.4  # vignetting, or light that falls off to one side
    uneven_strength: Range = (0.1, 0.5)  # of the light, from middle to corner or side to side
    response: Share = 0.7  # another curve than a linear one, and clipped ends
    gamma: Range = (0.6, 1.7)
    clipped: Annotated[Range, AfterValidator(_clipped)] = (0.0, 0.1)  # of the pixels, black and white each
    noise: Share = 0.6
    noise_strength: Range = (0.01, 0.08)  # of the range of greys
    grain: Share = 0.3  # noise of film: of several pixels' size, strongest in middle greys
    grain_strength: Range = (0.02, 0.1)
    lines: Share = 0.1  # dropped lines, or strips of other brightness
    jpeg: Share = 0.3
    jpeg_quality: Annotated[Range, AfterValidator(_quality)] = (20.0, 90.0)
    contrast: Range = (0.5, 1.0)  # of the whole range of greys
