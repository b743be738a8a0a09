"""Its second hook raises, so the spec of its first may not count either."""

from __future__ import annotations

from collections.abc import Iterable

from crater_ray.plugins import PluginSpec, hookimpl

crater_ray_seam = 1


@hookimpl
def register_readers() -> Iterable[PluginSpec]:
    yield PluginSpec("broken_hook", "must not be listed as usable", "broken_hook:Reader")


@hookimpl
def register_backbones() -> Iterable[PluginSpec]:
    yield PluginSpec("broken_hook", "must not be listed as usable", "broken_hook:Backbone")
    raise RuntimeError("no weights folder")
