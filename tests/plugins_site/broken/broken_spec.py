"""Yields something else than specs."""

from __future__ import annotations

from typing import Any

from crater_ray.plugins import hookimpl

crater_ray_seam = 1


@hookimpl
def register_aggregators() -> Any:
    yield {"name": "broken_spec", "factory": "broken_spec:Aggregator"}
