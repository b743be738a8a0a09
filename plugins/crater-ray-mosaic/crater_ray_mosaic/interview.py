"""What `crater-ray init` asks of the reader `mosaic`: each file is opened first, and says what it can."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from crater_ray.plugins import Ask
from crater_ray_mosaic.address import gdal_name
from crater_ray_mosaic.catalogue import headers, read_table
from crater_ray_mosaic.catalogue.table import Table
from crater_ray_mosaic.mosaic import Mosaic
from crater_ray_mosaic.options import MosaicOptions
from crater_ray_mosaic.raster import Raster
from crater_ray_mosaic.source import Source

CLEAR = 12  # pixels of the raster across a crater, which show its form


def interview(ask: Ask) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The options of [reader] and [queries]. Raises ReaderError as the reader does."""
    options: dict[str, Any] = {"raster": ask("raster")}
    raster = _raster(ask, options)
    _catalogue(ask, options)
    _craters(ask, options, raster)
    for name in ("scales", "size"):
        options[name] = ask(name)
    queries = ask("queries_per_crater", 1)
    return options, queries and {"views": "query", "queries_per_crater": queries}


def _raster(ask: Ask, options: dict[str, Any]) -> Raster:
    path = Path(options["raster"])
    placed, system, wide = Source(gdal_name(path), path).ask(
        lambda file: (not file.transform.is_identity, file.crs, file.width == 2 * file.height)
    )
    if not placed:
        ask.say(f"{path.name} does not say where it lies" + ("; it may be a whole globe" if wide else ""))
        options["extent"] = ask("extent", "-180,-90,180,90" if wide else None)
    if not system:
        ask.say(f"{path.name} has no CRS, so it does not say of which body it is")
        options["body"] = ask("body")
    raster = Raster(path, extent=options.get("extent"), body=options.get("body", ""))
    frame = raster.frame
    place = ""
    if frame.plane is None:
        east, south = frame.west + frame.width * frame.step_lon, frame.north - frame.height * frame.step_lat
        place = f"; {frame.west:g} to {east:g}° east, {south:g} to {frame.north:g}° north"
    ask.say(
        f"{path.name}: {frame.width:,} × {frame.height:,} pixels of {frame.dtype}, {frame.kilometres:.3g} km "
        f"each{place}"
    )
    if system:
        ask.say(f"its CRS is {_name(system)}, of a body of {frame.radius_km:g} km: {frame.body or 'unknown'}")
        options["body"] = ask("body", frame.body or None)
    deep = len(frame.bands) == 1 and frame.dtype != "uint8"
    if len(frame.bands) == 1 and not deep:
        ask.say("one band of 8 bits is ambiguous: it may be an image, or heights (kind = dem or slope)")
    options["kind"] = ask("kind", "dem" if deep else "image")
    if options["kind"] != "image" and not frame.metres:
        ask.say("its heights are taken for metres, since it names no unit; option vertical says otherwise")
    return raster


def _name(system: Any) -> str:
    from pyproj import CRS

    return repr(CRS.from_wkt(system.to_wkt(version="WKT2_2019")).name)


def _catalogue(ask: Ask, options: dict[str, Any]) -> None:
    path = Path(ask("catalogue"))
    options["catalogue"] = str(path)
    table = read_table(path, [])
    ask.say(f"{path.name} has the columns {', '.join(table.header)}")
    ids = [name for name in table.header if "id" in headers.words(name)]
    ids += [name for name in table.header if headers.words(name) == ["name"]]
    options["id_column"] = ask("id_column", ids[0] if ids else None)
    for role in ("lat", "lon", "diameter"):
        found = headers.recognised(table.header, role)
        if found is None and table.layer is None:
            ask.say(f"no column, or more than one, is of the {role} by its name")
        name = options[f"{role}_column"] = ask(f"{role}_column", found)
        if name is None:
            continue
        unit = _unit(path, name)
        if role == "lon" and headers.west_positive(name, unit) is None:
            ask.say(f"{name!r} does not say whether longitudes count eastward or westward")
            options["west_positive"] = ask("west_positive", "false")
        if role == "diameter" and headers.length_unit(name, unit) is None:
            ask.say(f"{name!r} does not say its unit")
            options["diameter_unit"] = ask("diameter_unit", "km")


def _unit(path: Path, column: str) -> str:
    table: Table = read_table(path, [column], numeric=[column])
    return table.unit(column)


def _craters(ask: Ask, options: dict[str, Any], raster: Raster) -> None:
    found = _read(options)
    sizes, pixel = found.catalogue.diameter, raster.frame.kilometres
    here = found.on_raster
    ask.say(
        f"{len(sizes):,} craters of {sizes.min():.3g} to {sizes.max():,.4g} km, {int(here.sum()):,} of "
        f"them on the raster; {CLEAR} of its pixels are {CLEAR * pixel:.3g} km"
    )
    least = max(CLEAR * pixel, float(np.floor(sizes.min())))
    step = 10.0 ** (math.floor(math.log10(least)) - 1)
    options["min_diameter_km"] = ask("min_diameter_km", f"{math.ceil(least / step - 1e-9) * step:g}")
    options["max_diameter_km"] = ask("max_diameter_km")
    within = (
        here
        & (sizes >= (options["min_diameter_km"] or 0))
        & (sizes <= (options["max_diameter_km"] or math.inf))
    )
    ask.say(f"{int(within.sum()):,} craters on the raster are of these diameters")
    options["craters"] = ask("craters")


def _read(options: dict[str, Any]) -> Mosaic:
    given = {name: value for name, value in options.items() if value is not None}
    return Mosaic(MosaicOptions(**given))
