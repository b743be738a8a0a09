"""What turns a pose into pixels beside the raster."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from crater_ray_mosaic.camera.options import CameraOptions
from crater_ray_mosaic.options import Kind


@dataclass(frozen=True, slots=True)
class Rendering:
    kind: Kind = "image"
    size: int = 224  # pixels a side
    vertical: float = 1.0  # metres a unit of the DEM
    sun_azimuth: float = 270.0  # of a DEM's pose without a sun
    sun_elevation: float = 30.0
    stretch: Literal["auto", "always"] = "auto"  # auto: not for 8-bit images
    max_invalid: float = 0.1
    flat_below: float = 1.0  # grey levels
    resolution_km: float = field(
        default=0.0, repr=False
    )  # that a pixel is no finer than; 0: as the raster is
    camera: CameraOptions | None = field(default=None, repr=False)  # of poses that name a camera
