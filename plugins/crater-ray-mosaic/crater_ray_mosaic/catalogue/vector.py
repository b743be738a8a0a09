"""Vector layers (GeoPackage, shapefile, GeoJSON, whatever GDAL opens), and the craters that they outline."""

from __future__ import annotations

import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crater_ray.errors import ReaderError
from crater_ray_mosaic.address import gdal_name
from crater_ray_mosaic.catalogue.craters import Floats

if TYPE_CHECKING:
    import pandas as pd
    from pyproj import CRS

SUFFIXES = frozenset(
    (
        *(".gpkg", ".sqlite", ".shp", ".shz", ".zip", ".gdb", ".fgb", ".gml", ".kml", ".kmz"),
        *(".geojson", ".json", ".geojsonl", ".geojsons", ".topojson"),
    )
)
EARTH = 6378.137  # km: what files are labelled with that can, or do, say nothing else
APART = 0.01  # of a radius, within which two bodies are one


@dataclass(frozen=True)
class Layer:
    """A layer's attributes and its geometry, N rows each."""

    attributes: pd.DataFrame
    geometry: NDArray[Any]  # shapely, None where there is none
    crs: CRS | None


@dataclass(frozen=True, slots=True)
class Outlines:
    """lat, lon (N,) degrees east; diameter (N,) km of a circle of an outline's area, NaN of points."""

    lat: Floats
    lon: Floats
    diameter: Floats
    refused: NDArray[np.bool_]  # (N,) no geometry, an empty one, or one that is no point and no outline
    flattening: float  # of the latitudes, where the layer's CRS is of an ellipsoid; else 0


def read_layer(path: Path, layer: str | None) -> Layer:
    """One layer. Raises ReaderError for a file that GDAL cannot read, and several layers without a choice."""
    import geopandas
    import pyogrio

    _parts_of_shapefile(path)
    source = _source(path)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pyogrio")
            names = [str(name) for name in pyogrio.list_layers(source)[:, 0]]
            if layer is None and len(names) > 1:
                raise ReaderError(
                    f"{path.name} has {len(names)} layers ({', '.join(names[:20])}); "
                    "choose one with option layer"
                )
            if layer is not None and layer not in names:
                raise ReaderError(f"{path.name} has no layer {layer!r}; it has {', '.join(names[:20])}")
            if not names:
                raise ReaderError(f"{path.name} has no layer")
            frame = geopandas.read_file(source, layer=layer or names[0], engine="pyogrio")
    except (RuntimeError, ValueError, UnicodeError) as error:
        if not path.exists() and source == str(path):
            raise FileNotFoundError(2, "No such file or directory") from None
        why = "".join(one for one in str(error).splitlines()[0][:160] if one.isprintable())
        raise ReaderError(f"{path.name} cannot be read as a vector layer: {why}") from None
    if not isinstance(frame, geopandas.GeoDataFrame):
        return Layer(frame, np.full(len(frame), None, object), None)
    attributes = frame.drop(columns=frame.geometry.name)
    return Layer(attributes, np.asarray(frame.geometry.array, object), frame.crs)


def outlines(layer: Layer, radius_km: float, file: str) -> Outlines:
    """Centres, and diameters of outlines, on a sphere of the raster's radius.

    Raises ReaderError for a CRS of another body, and coordinates that say no place.
    """
    import shapely

    geometry = layer.geometry
    shape, flattening = _degrees(geometry, layer.crs, radius_km, file)
    count = len(geometry)
    lat, lon, diameter = (np.full(count, np.nan) for _ in range(3))
    refused = np.ones(count, bool)
    for row in range(count):
        one = shape[row]
        if one is None or one.is_empty:
            continue
        pieces = _rings(one)
        if one.geom_type == "Point" or (one.geom_type == "MultiPoint" and len(one.geoms) == 1):
            point = one if one.geom_type == "Point" else one.geoms[0]
            lon[row], lat[row] = point.x, point.y
            refused[row] = False
        elif pieces:
            lat[row], lon[row], area = _centre([shapely.get_coordinates(piece) for piece in pieces])
            refused[row] = not area > 0
            diameter[row] = 2.0 * radius_km * np.arccos(np.clip(1.0 - area / (2.0 * np.pi), -1.0, 1.0))
    for values, most in ((lat, 90.0), (lon, 360.0)):
        if (np.abs(values[~refused]) > most + 1e-9).any():
            raise ReaderError(
                f"{file}: its geometry is not in degrees, and no CRS says in what; give the layer its CRS"
            )
    return Outlines(lat, lon, diameter, refused, flattening)


def _source(path: Path) -> str:
    """What GDAL opens: the name itself, or the only vector file of a .zip, in whatever folder of it."""
    if path.suffix.lower() == ".zip" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            names = [
                name
                for name in file.namelist()
                if Path(name).suffix.lower() in SUFFIXES and not name.startswith("__MACOSX/")
            ]
        if len(names) == 1:
            return f"/vsizip/{path}/{names[0]}"
    return gdal_name(path)


def _parts_of_shapefile(path: Path) -> None:
    if path.suffix.lower() != ".shp" or not path.exists():
        return
    there = {one.suffix.lower() for one in path.parent.iterdir() if one.stem == path.stem}
    missing = [suffix for suffix in (".shx", ".dbf") if suffix not in there]
    if missing:
        raise ReaderError(
            f"{path.name} lies without {' and '.join(path.stem + one for one in missing)}: "
            "a shapefile is several files; copy them all"
        )


def _degrees(
    geometry: NDArray[Any], crs: CRS | None, radius_km: float, file: str
) -> tuple[NDArray[Any], float]:
    """The geometry in degrees of longitude and latitude, and the flattening of these latitudes."""
    import shapely
    from pyproj import CRS, Transformer

    if crs is None or crs.ellipsoid is None:
        return geometry, 0.0
    own = crs.ellipsoid.semi_major_metre / 1000.0
    flat = 1.0 / crs.ellipsoid.inverse_flattening if crs.ellipsoid.inverse_flattening else 0.0
    earth = abs(own - EARTH) < APART * EARTH
    flat = 0.0 if earth else flat  # all of Earth's lists and maps have one kind of latitude
    if earth and abs(own - radius_km) > APART * radius_km and not crs.is_projected:
        return geometry, 0.0  # GeoJSON can say nothing else: degrees are degrees
    if abs(own - radius_km) > APART * radius_km:
        raise ReaderError(
            f"{file} is in {crs.name}, of a body of {own:,.1f} km, and the raster's has a radius of "
            f"{radius_km:,.1f} km; correct whichever is wrong"
        )
    b = (crs.ellipsoid.semi_minor_metre or crs.ellipsoid.semi_major_metre) / 1000.0
    east = CRS.from_dict({"proj": "longlat", "a": 1000.0 * own, "b": 1000.0 * b, "no_defs": True})
    sign = -1.0 if any(axis.direction == "west" for axis in crs.axis_info) else 1.0
    to = Transformer.from_crs(_east_north(crs), east, always_xy=True)

    def turned(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = to.transform(sign * points[:, 0], points[:, 1])
        return np.column_stack([x, y])

    found = shapely.transform(np.asarray(shapely.force_2d(geometry), object), turned)
    return np.asarray(found, object), flat


def _east_north(crs: CRS) -> CRS:
    """A CRS as files keep its coordinates, x and y: PROJ would swap those of one that counts westward."""
    described = crs.to_2d().to_json_dict()
    axes = described.get("coordinate_system", {}).get("axis", [])
    if not any(axis["direction"] == "west" for axis in axes):
        return crs
    turned = [axis | {"direction": "east"} if axis["direction"] == "west" else axis for axis in axes]
    described["coordinate_system"]["axis"] = sorted(turned, key=lambda axis: axis["direction"] != "east")
    described.pop("id", None)
    return type(crs).from_json_dict(described)


def _rings(shape: Any) -> list[Any]:
    """The outer rings of an outline: polygons and closed lines; none of anything else."""
    kind = shape.geom_type
    if kind == "Polygon":
        return [shape.exterior]
    if kind in ("LineString", "LinearRing"):
        return [shape] if shape.is_closed and len(shape.coords) > 3 else []
    if kind in ("MultiPolygon", "MultiLineString"):
        found = [_rings(piece) for piece in shape.geoms if not piece.is_empty]
        return [ring for rings in found for ring in rings] if all(found) else []
    return []


def _centre(rings: list[Floats]) -> tuple[float, float, float]:
    """Latitude and longitude of the middle of an outline's area, and the area, on the unit sphere.

    In Lambert's azimuthal equal-area projection about the middle itself (Snyder, chapter 24), found in a few
    steps: no seam, no pole is in the way.
    """
    points = [_units(ring[:, 1], ring[:, 0]) for ring in rings]
    middle = np.concatenate(points).mean(axis=0)
    area = 0.0
    for _ in range(4):
        middle = middle / max(float(np.linalg.norm(middle)), 1e-300)
        east, north = _axes(middle)
        sums = np.zeros(3)
        for one in points:
            stretch = np.sqrt(2.0 / np.maximum(1.0 + one @ middle, 1e-12))
            x, y = (one @ east) * stretch, (one @ north) * stretch
            cross = x[:-1] * y[1:] - x[1:] * y[:-1]
            sign = np.sign(cross.sum()) or 1.0
            sums += sign * np.array(
                [cross.sum() / 2, ((x[:-1] + x[1:]) * cross).sum() / 6, ((y[:-1] + y[1:]) * cross).sum() / 6]
            )
        area = float(sums[0])
        if not area > 0:
            break
        right, up = sums[1] / area, sums[2] / area
        away = float(np.hypot(right, up))
        angle = 2.0 * np.arcsin(min(away / 2.0, 1.0))
        toward = (right * east + up * north) / away if away > 0 else np.zeros(3)
        middle = np.cos(angle) * middle + np.sin(angle) * toward
    lat = float(np.degrees(np.arcsin(np.clip(middle[2], -1.0, 1.0))))
    return lat, float(np.degrees(np.arctan2(middle[1], middle[0]))), area


def _units(lat: Floats, lon: Floats) -> Floats:
    phi, turn = np.radians(lat), np.radians(lon)
    return np.stack([np.cos(phi) * np.cos(turn), np.cos(phi) * np.sin(turn), np.sin(phi)], axis=-1)


def _axes(middle: Floats) -> tuple[Floats, Floats]:
    east = np.array([-middle[1], middle[0], 0.0])
    long = float(np.linalg.norm(east))
    east = east / long if long > 1e-12 else np.array([0.0, 1.0, 0.0])
    return east, np.cross(middle, east)
