"""Claims a name of crater-ray itself."""

from __future__ import annotations

from collections.abc import Iterable

from crater_ray.plugins import PluginSpec, hookimpl

crater_ray_seam = 1


@hookimpl
def register_aggregators() -> Iterable[PluginSpec]:
    yield PluginSpec("broken_claim", "must not be listed as usable", "broken_claim:Aggregator")
    yield PluginSpec("instance_tokens", "a name of the core", "broken_claim:Aggregator")
