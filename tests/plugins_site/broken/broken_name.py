"""Its hook's name is misspelt."""

from __future__ import annotations

from collections.abc import Iterable

from crater_ray.plugins import PluginSpec, hookimpl

crater_ray_seam = 1


@hookimpl
def register_reader() -> Iterable[PluginSpec]:
    yield PluginSpec("broken_name", "the hook is called register_readers", "broken_name:Reader")
