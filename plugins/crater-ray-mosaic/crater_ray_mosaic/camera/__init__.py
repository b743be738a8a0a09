"""Views as cameras take them: cast shadows, other laws of reflection, albedo, oblique sight, a sensor's faults.

`options` says what may happen, `drawn` what happens to one view, `radiance` lights the ground, `oblique` looks
at it from the side, `sensor` takes the picture.
"""

from crater_ray_mosaic.camera.drawn import Camera, drawn
from crater_ray_mosaic.camera.options import CameraOptions

__all__ = ["Camera", "CameraOptions", "drawn"]
