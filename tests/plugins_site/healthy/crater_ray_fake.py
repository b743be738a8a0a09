"""A healthy plugin over crater_ray.testing: one spec of each kind, and a factory that cannot be imported."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from crater_ray.plugins import File, Options, PluginSpec, hookimpl

crater_ray_seam = 1


class BackboneOptions(Options):
    dim: int = Field(default=16, ge=1)
    grid: int = Field(default=4, ge=1)
    image_size: int = Field(default=32, ge=4)


class ReaderOptions(Options):
    count: int = Field(default=12, ge=0)
    parts: int = Field(default=2, ge=1)
    size: int = Field(default=32, ge=4)
    seed: int = 0


class PathOptions(Options):
    table: File | None = None
    extra: list[File] = Field(default_factory=list)
    scale: float = 1.0


@hookimpl
def register_readers() -> Iterable[PluginSpec]:
    yield PluginSpec("fake", "painted images in memory", "crater_ray.testing:FakeReader", ReaderOptions)
    yield PluginSpec("fake_paths", "hands its options back", "crater_ray_fake_factories:Paths", PathOptions)
    yield PluginSpec("fake_absent", "its module is not there", "crater_ray_fake_absent:Reader")
    yield PluginSpec("fake_nameless", "its module lacks the name", "crater_ray_fake_factories:Nothing")
    yield PluginSpec("fake_exit", "its module exits", "crater_ray_fake_exit:Reader")


@hookimpl
def register_backbones() -> Iterable[PluginSpec]:
    yield PluginSpec(
        "fake", "mean and contrast of each patch", "crater_ray.testing:FakeBackbone", BackboneOptions
    )


@hookimpl
def register_aggregators() -> Iterable[PluginSpec]:
    yield PluginSpec("fake_first", "the first patch token", "crater_ray_fake_factories:First")


@hookimpl
def register_consumers() -> Iterable[PluginSpec]:
    yield PluginSpec("fake_count", "how many rows there are", "crater_ray_fake_factories:Count")


@hookimpl
def register_commands() -> Iterable[PluginSpec]:
    yield PluginSpec("fake-hello", "says hello", "crater_ray_fake_factories:hello")
