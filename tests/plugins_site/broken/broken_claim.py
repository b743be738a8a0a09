"""Claims a name of crater-ray itself."""

from __future__ import annotations

from collections.abc import Iterable

from crater_ray.plugins import Label, hookimpl


@hookimpl
def register_aggregators() -> Iterable[Label]:
    yield Label("broken_claim", "must not be listed as usable", "broken_claim:Aggregator")
    yield Label("instance_tokens", "a name of the core", "broken_claim:Aggregator")
