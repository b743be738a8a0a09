"""Structure from motion out of retrieved pairs: the consumer `colmap`. Importing this imports no pycolmap."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from crater_ray.plugins import File, Label, Options, hookimpl

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


@hookimpl
def register_consumers() -> Iterable[Label]:
    yield Label(
        "colmap",
        "structure from motion: COLMAP over the pairs that retrieval found, beside its own ways of choosing",
        "crater_ray_colmap.consumer:Colmap",
        ColmapOptions,
    )
