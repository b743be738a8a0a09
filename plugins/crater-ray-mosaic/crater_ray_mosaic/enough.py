"""Whether a view shows enough ground to be used."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crater_ray.errors import BadImage
from crater_ray_mosaic.raster import Raster


def missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    """(S, S) which pixels of (S, S) or (S, S, B) have no measurement in some band."""
    known = np.isfinite(values)
    return np.asarray(~known if known.ndim == 2 else ~known.all(axis=2))


def refuse_limb(lats: NDArray[np.float64], half_width_km: float, raster: Raster, most: float) -> None:
    """Raises BadImage where more than the share `most` of the places (NaN) lies beyond the limb."""
    beyond_limb = float(np.isnan(lats).mean())
    if beyond_limb > most:
        raise BadImage(
            f"no data: {beyond_limb:.0%} of it beyond the limb: a view of {2 * half_width_km:.0f} km is "
            f"wider than the disc of a body of {raster.frame.radius_km:.0f} km radius; "
            f"at most {most:.0%}"
        )


def refuse_missing(
    invalid: NDArray[np.bool_], outside: NDArray[np.bool_], most: float, no_measurement: str
) -> None:
    """Raises BadImage where more than the share `most` is invalid, saying how much is outside the raster."""
    share, beyond = float(invalid.mean()), float(outside.mean())
    if share > most:
        said = f"; no measurement: {no_measurement}" if no_measurement and share > beyond else ""
        raise BadImage(
            f"no data: {share:.0%} of it, {beyond:.0%} outside the raster; at most {most:.0%}{said}"
        )


def refuse_flat(grey: NDArray[Any], least: float) -> None:
    """Raises BadImage where greys of 0..255 differ by less than a standard deviation."""
    if (spread := float(grey.std())) < least:
        raise BadImage(f"flat: a standard deviation of {spread:.2f} grey levels, under {least:g}")


def refuse_even_light(light: NDArray[Any]) -> None:
    """Raises BadImage where a sun lights every slope of a DEM alike."""
    if np.nanmax(light, initial=-np.inf) - np.nanmin(light, initial=np.inf) < 1e-4:
        raise BadImage("flat: every slope faces the sun alike (of a DEM in kilometres, give vertical = 1000)")
