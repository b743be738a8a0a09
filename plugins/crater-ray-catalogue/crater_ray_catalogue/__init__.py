"""Uses of an index for scientists: catalogues merged, similar forms found, images located. No GDAL here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import Field

from crater_ray.plugins import File, Options, PluginSpec, hookimpl
from crater_ray_mosaic.options import MosaicOptions, Preset, unread

crater_ray_seam = 1


class CataloguesOptions(MosaicOptions):
    """[reader] name = "catalogues": those of `mosaic`, and what the second catalogue has apart."""

    second_catalogue: File
    second_preset: Preset | None = None  # None: as the first; so with every other second_*
    second_id_column: str | None = None
    second_lat_column: str | None = None
    second_lon_column: str | None = None
    second_diameter_column: str | None = None
    second_layer: str | None = None  # None: its only one
    second_west_positive: bool | None = None
    second_diameter_unit: Literal["km", "m"] | None = None
    second_diameter_is: Literal["diameter", "radius"] | None = None
    second_latitude: Literal["planetocentric", "planetographic"] | None = None
    second_angle_unit: Literal["deg", "rad"] | None = None
    second_raster: File | None = None
    second_kind: Literal["image", "dem"] | None = None
    second_sun_azimuth: float | None = None
    second_sun_elevation: float | None = Field(None, gt=0, le=90)
    second_drop: dict[str, str] | None = None  # None: no row, whatever is dropped of the first
    ratio: float = Field(1.25, ge=1)  # the second catalogue goes down to min_diameter_km over this
    scales: tuple[float, ...] = Field((3.0,), min_length=1)

    def unused(self) -> Iterator[tuple[str, str]]:
        second = self.second_kind or self.kind
        of_second, why = unread(second)
        yield from (
            (f"second_{name}", f"second: {why}")
            for name in ("sun_azimuth", "sun_elevation")
            if name in of_second
        )
        yield from ((name, why) for name, why in super().unused() if name in of_second or second == self.kind)


class DedupOptions(Options):
    max_separation: float = Field(2.5, gt=0)  # diameters between the centres of one crater's entries
    max_diameter_ratio: float = Field(1.25, gt=1)  # of one crater's entries
    views: bool = True  # false: geometry alone
    min_probability: float = Field(0.5, gt=0, lt=1)  # from which a pair is one crater
    labelled_pairs: File | None = None  # CSV first,second,same: pairs decided by hand
    body: str | None = None  # None: as the index's items say


class AnaloguesOptions(Options):
    like: list[str] = Field(default_factory=list)  # ids of example craters
    unlike: list[str] = Field(default_factory=list)  # ids of counter-examples
    top: int = Field(30, ge=1)
    min_separation: float = Field(1.0, ge=0)  # diameters of the larger; nearer craters are one place
    diversity: float = Field(0.0, ge=0, lt=1)  # 0: the most similar; towards 1: less similar to each other
    size_penalty: float = Field(0.3, ge=0)  # similarity that a factor e in diameter costs
    max_diameter_ratio: float | None = Field(None, gt=1)  # to an example's diameter; None: any
    classes: int = Field(0, ge=0)  # sort the catalogue into so many
    axes: int = Field(32, ge=1)  # of the shortlist vector that count
    body: str | None = None  # None: as the index's items say
    seed: int = 0

    def unused(self) -> Iterator[tuple[str, str]]:
        if not self.like:
            why = "like names no example"
            yield from ((name, why) for name in ("unlike", "top", "min_separation", "diversity"))
            yield from ((name, why) for name in ("size_penalty", "max_diameter_ratio"))
        if not self.classes:
            yield "seed", "nothing is sorted into classes"


class MatchOptions(Options):
    image: File  # anything GDAL opens
    candidates: File | None = None  # CSV x,y,diameter in pixels, of another detector; None: found here
    illumination: Literal["low_sun", "high_sun"] = "low_sun"  # craters show as shading, or as bright rings
    pixels: float = Field(16.0, ge=6)  # across a crater that is looked for, at least
    scale: tuple[float, float] | None = None  # kilometres a pixel that are possible
    north_tolerance: tuple[float, float] | None = (
        None  # bearing of the image's up: degrees clockwise from north
    )
    rotations: int = Field(12, ge=1)  # of each window, over a whole turn
    windows: int = Field(240, ge=1)  # asked to find candidates' entries, at most
    width: float = Field(2.5, gt=1)  # of a window, in diameters: between those of the index's views
    max_false_alarm: float = Field(0.01, gt=0, lt=1)  # expected false matches an image, at most
    catalogue: str | None = None  # "a" or "b" of an index of two catalogues
    body: str | None = None  # None: as the index's items say

    def unused(self) -> Iterator[tuple[str, str]]:
        if self.candidates is not None:
            yield "illumination", "candidates says where craters are, and none is detected"


class DifferenceOfGaussiansOptions(Options):
    size: int = Field(48, ge=8, le=96)  # pixels a side that are compared


@hookimpl
def register_readers() -> Iterable[PluginSpec]:
    yield PluginSpec(
        "catalogues",
        "crater views of two catalogues of one body, over one raster or two",
        "crater_ray_catalogue.catalogues:catalogues",
        CataloguesOptions,
    )


@hookimpl
def register_backbones() -> Iterable[PluginSpec]:
    yield PluginSpec(
        "difference_of_gaussians",
        "band-passed grey values: optical images under a high sun against maps of slope; not learned",
        "crater_ray_catalogue.difference_of_gaussians:DifferenceOfGaussians",
        DifferenceOfGaussiansOptions,
    )


@hookimpl
def register_consumers() -> Iterable[PluginSpec]:
    yield PluginSpec(
        "dedup",
        "merges two catalogues, or removes the duplicates of one: a probability and a reason for each pair",
        "crater_ray_catalogue.dedup:Dedup",
        DedupOptions,
    )
    yield PluginSpec(
        "analogues",
        "craters similar in form to examples, and a catalogue clustered by form",
        "crater_ray_catalogue.analogues:Analogues",
        AnaloguesOptions,
        reads_neighbours=False,
    )
    yield PluginSpec(
        "match",
        "locates an image of unknown place, rotation, scale and sun with an indexed catalogue",
        "crater_ray_catalogue.match:Match",
        MatchOptions,
        reads_neighbours=False,
    )
