"""Overlapping photographs: the backbone `sift`, and structure from motion by the consumer `colmap`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import Field

from crater_ray.plugins import File, Options, PluginSpec, hookimpl

crater_ray_seam = 1

Cameras = Literal["folder", "size", "image", "one"]  # which images share a camera
CameraModel = Literal[
    "SIMPLE_PINHOLE",
    "PINHOLE",
    "SIMPLE_RADIAL",
    "RADIAL",
    "OPENCV",
    "FULL_OPENCV",
    "FOV",
    "OPENCV_FISHEYE",
    "SIMPLE_RADIAL_FISHEYE",
    "RADIAL_FISHEYE",
    "THIN_PRISM_FISHEYE",
]  # COLMAP's own names
Baseline = Literal["exhaustive", "vocab_tree"]


class ColmapOptions(Options):
    images: File | None = None  # the reader's own folder; without it images are written from the index
    top: int = Field(10, ge=1)  # neighbours of each image
    cameras: Cameras = "folder"
    camera_model: CameraModel = "SIMPLE_RADIAL"
    features: int = Field(4096, ge=64)  # SIFT features an image, at most
    image_size: int = Field(1600, ge=64)  # pixels of the longer side that SIFT sees, at most
    baselines: list[Baseline] = Field(default_factory=list)
    words: int = Field(4096, ge=16)  # of the vocabulary tree
    mapping: bool = True  # false: stop at the verified pairs
    min_model_size: int = Field(10, ge=2)  # images below which a second model is thrown away
    threads: int | None = Field(None, ge=1)  # None: all cores
    seed: int = Field(0, ge=0)

    def unused(self) -> Iterator[tuple[str, str]]:
        if "vocab_tree" not in self.baselines:
            yield "words", "baselines has no 'vocab_tree'"
        if not self.mapping:
            yield "min_model_size", "mapping = false makes no model"


class SiftOptions(Options):
    grid: int = Field(24, ge=2, le=64)  # cells a side, each with one token
    image_size: int = Field(1024, ge=32, le=4096)  # pixels of the longer side, at most
    features: int = Field(8192, ge=1)  # found before each cell keeps one


@hookimpl
def register_backbones() -> Iterable[PluginSpec]:
    yield PluginSpec(
        "sift",
        "local features by OpenCV as tokens, the largest of each grid cell: for overlapping photographs",
        "crater_ray_colmap.sift:Sift",
        SiftOptions,
    )


@hookimpl
def register_consumers() -> Iterable[PluginSpec]:
    yield PluginSpec(
        "colmap",
        "structure from motion: COLMAP on retrieved pairs, with COLMAP's own pair selection as baselines",
        "crater_ray_colmap.consumer:Colmap",
        ColmapOptions,
    )
