"""Pixels of what a reader gives: the one decoder (`crater_ray.images`), by a name of this room."""

from crater_ray.images import pixels

__all__ = ["pixels"]
