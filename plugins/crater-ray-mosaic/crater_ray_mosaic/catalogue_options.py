"""The catalogue that a reader's options name: columns, conventions, and the body that the raster is of."""

from __future__ import annotations

from crater_ray.errors import ReaderError
from crater_ray_mosaic.bodies import radii_km
from crater_ray_mosaic.catalogue import PRESETS, Catalogue, Columns, Conventions, read_catalogue
from crater_ray_mosaic.catalogue.measures import Body
from crater_ray_mosaic.catalogue.presets import WEST_POSITIVE, preset_unit, preset_west_positive
from crater_ray_mosaic.catalogue.vector import EARTH, SUFFIXES
from crater_ray_mosaic.figure import Statement, of_body
from crater_ray_mosaic.options import MosaicOptions
from crater_ray_mosaic.raster import Raster

SAME = 0.01  # of a radius


def catalogue_of(o: MosaicOptions, raster: Raster, body: str, *, recognise: bool = False) -> Catalogue:
    """Every crater of option catalogue. Raises ReaderError as read_catalogue does."""
    if o.catalogue is None:
        raise ReaderError("no catalogue is given; add option catalogue")
    return read_catalogue(
        o.catalogue,
        columns(o, recognise=recognise),
        Conventions(o.west_positive, o.diameter_unit, o.diameter_is, o.latitude, o.angle_unit, o.flattening),
        body=_body(raster, body),
        preset_west=_west(o, body, raster.frame.radius_km),
        preset_unit=preset_unit(o.preset),
        layer=o.layer,
        drop=o.drop,
    )


def columns(o: MosaicOptions, *, recognise: bool = False) -> Columns:
    """The preset's names, each overruled by the option given by hand; id_column = "": no ids."""
    base = PRESETS[o.preset] if o.preset else None
    names = {
        key: getattr(o, f"{key}_column") or (getattr(base, key) if base else None)
        for key in ("id", "lat", "lon", "diameter")
    }
    if o.id_column == "":
        names["id"] = None
    by_geometry = o.catalogue is not None and o.catalogue.suffix.lower() in SUFFIXES
    missing = [key for key, name in names.items() if name is None and key != "id"]
    if missing and not by_geometry and not recognise:
        raise ReaderError(f"option {missing[0]}_column is required without a preset ({', '.join(PRESETS)})")
    if (names["lat"] is None) != (names["lon"] is None) and not recognise:
        raise ReaderError("options lat_column and lon_column go together")
    by_hand = any((o.lat_column, o.lon_column, o.diameter_column))
    return Columns(
        names["id"],
        names["lat"],
        names["lon"],
        names["diameter"],
        published=base is not None and not by_hand,
        recognise=recognise or (base is not None and base.recognise),
    )


def _west(o: MosaicOptions, body: str, radius_km: float) -> bool | None:
    """As the preset says of the body. Raises ReaderError where it differs by body, and none is given."""
    if o.preset == "craterpy" and not body and o.west_positive is None:
        raster = Statement("the raster", radius_km, radius_km, radius_km)
        like = [name for name in sorted(WEST_POSITIVE) if (one := of_body(name)) and one.agrees(raster)]
        if like:
            raise ReaderError(
                f"preset craterpy counts longitudes westward for {like[0]}, whose radius the raster has; "
                "give option body, or west_positive"
            )
    return preset_west_positive(o.preset, body)


def _body(raster: Raster, name: str) -> Body:
    radius = raster.frame.radius_km
    if abs(radius - EARTH) < SAME * EARTH:
        return Body(radius, 0.0)  # all of Earth's lists and maps have one kind of latitude
    radii = radii_km(name)
    known = 1.0 - radii[1] / radii[2] if radii else None
    return Body(radius, raster.frame.flattening or known)
