"""Where a raster lies and on which body: its CRS, option extent, and what else is said of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from inputs.rasters import MOON, SIDE, VALUES, view, write
from inputs.row import Row

R = 1737400.0
EARTH = "EPSG:4326"


def _at(
    crs: str | None,
    lat: float = 0.0,
    lon: float = 0.0,
    step: float = 4000.0,
    turned: float = 0.0,
    **options: Any,
) -> Callable[[Path], None]:
    """A raster of `step` metres whose middle is x = 0, y = 0, and the view of the place that lies there."""

    def attempt(folder: Path) -> None:
        from rasterio.transform import Affine

        middle = (
            Affine.rotation(turned) @ Affine.scale(step, -step) @ Affine.translation(-SIDE / 2, -SIDE / 2)
        )
        view(write(folder / "x.tif", VALUES, crs=crs, transform=middle), at=(lat, lon), **options)

    return attempt


def _degrees(own: str | None = MOON, **options: Any) -> Callable[[Path], None]:
    """A raster in degrees about 0, 0, whatever its CRS."""
    return lambda folder: view(write(folder / "x.tif", VALUES, crs=own), **options)


def _globe(width: int, step: float) -> Callable[[Path], None]:
    def attempt(folder: Path) -> None:
        from rasterio.transform import Affine

        values = np.resize(VALUES, (round(180 / step), width))
        view(write(folder / "x.tif", values, transform=Affine(step, 0, -180, 0, -step, 90)), at=(0.0, 180.0))

    return attempt


def _plain(**options: Any) -> Callable[[Path], None]:
    """An image that says nothing of a place."""

    def attempt(folder: Path) -> None:
        from PIL import Image

        Image.fromarray(np.resize(VALUES, (180, 360)).astype(np.uint8)).save(folder / "x.png")
        view(folder / "x.png", **options)

    return attempt


def _south_up(folder: Path) -> None:
    from rasterio.transform import Affine

    view(write(folder / "x.tif", VALUES, transform=Affine(0.125, 0, -10, 0, 0.125, -10)))


def _extent(folder: Path) -> None:
    view(write(folder / "x.tif", VALUES, crs=f"+proj=stere +lat_0=90 +R={R}"), extent=(-180, -90, 180, 90))


def _metres(folder: Path) -> None:
    from rasterio.transform import Affine

    values = np.resize(VALUES, (180, 360))
    view(write(folder / "x.tif", values, crs=f"+proj=eqc +R={R}", transform=Affine(1, 0, -180, 0, -1, 90)))


ROWS = (
    *(
        Row(form, "read", _at(f"{crs} +R={R}", lat, lon))
        for form, crs, lat, lon in (
            ("polar stereographic, north and south", "+proj=stere +lat_0=-90", -90.0, 0.0),
            ("Mercator", "+proj=merc", 0.0, 0.0),
            ("sinusoidal", "+proj=sinu +lon_0=180", 0.0, 180.0),
            ("equirectangular, any true latitude and middle", "+proj=eqc +lat_ts=40 +lon_0=180", 0.0, 180.0),
            ("Lambert conformal", "+proj=lcc +lat_1=30 +lat_2=60 +lat_0=45 +lon_0=170", 45.0, 170.0),
            ("Lambert equal-area", "+proj=laea +lon_0=90", 0.0, 90.0),
            ("orthographic", "+proj=ortho +lat_0=-20 +lon_0=30", -20.0, 30.0),
            ("transverse Mercator", "+proj=tmerc +lon_0=15", 0.0, 15.0),
            ("oblique Mercator", "+proj=omerc +lat_0=20 +lonc=30 +alpha=40 +gamma=0", 20.0, 30.0),
        )
    ),
    Row("kilometres for metres", "read", _at(f"+proj=tmerc +R={R} +units=km", step=4.0)),
    Row("south up", "read", _south_up),
    Row("turned by any angle", "read", _at(f"+proj=stere +lat_0=90 +R={R}", 90.0, turned=30.0)),
    Row("a prime meridian other than 0", "read", _at(f"+proj=longlat +R={R} +pm=30", 0.0, 30.0, step=0.125)),
    Row("planetographic latitudes of an ellipsoid", "read", _degrees("+proj=longlat +a=3396190 +b=3376200")),
    Row("a whole globe", "read: across ±180°", _globe(720, 0.5)),
    Row("a globe of one column too few or too many", "read: across ±180°", _globe(721, 0.5)),
    Row("no place, and no `extent`", "does not say where it lies", _plain(body="moon")),
    Row("no place, and `extent`", "read", _plain(body="moon", extent=(-180, -90, 180, 90))),
    Row("no body", "does not say how large its body is; give body or radius_km", _degrees(None)),
    Row("no CRS, and `body`", "read: as degrees", _degrees(None, body="moon")),
    Row("`radius_km` in metres", "larger than any body with a solid surface", _degrees(radius_km=1737400.0)),
    Row("CRS and `body` of two radii", "disagree about the body's radius", _degrees(body="mars")),
    Row("CRS and `radius_km` of two radii", "disagree about the body's radius", _degrees(radius_km=1774.0)),
    Row(
        "mean, polar and equatorial radius of one body",
        "read",
        _degrees("+proj=longlat +R=3389500", body="mars"),
    ),
    Row(
        "Earth's degrees (EPSG:4326) and another `body`",
        "read: on that body",
        _degrees(EARTH, body="moon"),
        "is used for its coordinates alone; the radius is that of body",
    ),
    Row(
        "Earth's metres (EPSG:3857) and another `body`",
        "disagree about the body's radius",
        _at("EPSG:3857", body="moon"),
    ),
    Row(
        "any CRS with both `body` and `radius_km`",
        "read: for its coordinates",
        _degrees("+proj=longlat +R=6051800", body="moon", radius_km=1737.4),
        "is used for its coordinates alone; the radius is that of radius_km",
    ),
    Row("`extent` and a file that says another", "disagree about its place", _degrees(extent=(0, 0, 20, 20))),
    Row("`extent` and a projected CRS", "extent is for simple cylindrical rasters", _extent),
    Row("a globe of 360 by 180 metres", "look like the degrees of a globe", _metres),
    Row("`crs` that PROJ does not know", "PROJ cannot read option crs = 'moon'", _degrees(crs="moon")),
)
