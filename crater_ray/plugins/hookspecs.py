"""The five hooks. Each takes no arguments and yields specs; none acts, none has an order."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from crater_ray.plugins.specs import PluginSpec

GROUP = "crater_ray"  # the entry-point group of every plugin
SEAM = 1  # version of these hooks and promises; a hook module declares it as `crater_ray_seam`
hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def register_readers() -> Iterable[PluginSpec]:
    """Things that list items and load their pixels: `factory(**options) -> Reader`."""
    return ()


@hookspec
def register_backbones() -> Iterable[PluginSpec]:
    """Things that turn pixels into Tokens: `factory(**options) -> Backbone`."""
    return ()


@hookspec
def register_aggregators() -> Iterable[PluginSpec]:
    """Things that turn Tokens into one or K vectors: `factory(shape, **options) -> Aggregator`."""
    return ()


@hookspec
def register_consumers() -> Iterable[PluginSpec]:
    """Things that use an index and its neighbours: `factory(**options) -> Consumer`."""
    return ()


@hookspec
def register_commands() -> Iterable[PluginSpec]:
    """Subcommands of `crater-ray`: the factory is a click.Command, imported when it is called."""
    return ()
