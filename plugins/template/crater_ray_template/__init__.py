"""The hooks of crater-ray-template: names, sentences, options. It imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from crater_ray.plugins import Options, PluginSpec, hookimpl

crater_ray_seam = 1  # the version of the hooks and protocols that this plugin is written for


class DisksOptions(Options):
    disks: int = Field(default=12, ge=1)
    views: int = Field(default=2, ge=1)
    seed: int = Field(default=0, ge=0)  # another seed gives other views of the same disks
    size: int = Field(default=64, ge=16)  # pixels


class GridOptions(Options):
    grid: int = Field(default=8, ge=1)  # rows and columns of tokens
    image_size: int = Field(default=64, ge=16)


class BlocksOptions(Options):
    side: int = Field(default=2, ge=1)  # rows and columns of vectors


class TableOptions(Options):
    top: int = Field(default=3, ge=1)


@hookimpl
def register_readers() -> Iterable[PluginSpec]:
    yield PluginSpec(
        "template_disks", "painted disks in memory", "crater_ray_template.disks:Disks", DisksOptions
    )


@hookimpl
def register_backbones() -> Iterable[PluginSpec]:
    yield PluginSpec(
        "template_grid", "colours of a grid of cells", "crater_ray_template.grid:Grid", GridOptions
    )


@hookimpl
def register_aggregators() -> Iterable[PluginSpec]:
    yield PluginSpec(
        "template_blocks",
        "means of blocks",
        "crater_ray_template.blocks:Blocks",
        BlocksOptions,
        locates=True,
    )


@hookimpl
def register_consumers() -> Iterable[PluginSpec]:
    yield PluginSpec(
        "template_table", "the nearest as a CSV", "crater_ray_template.table:Table", TableOptions
    )


@hookimpl
def register_commands() -> Iterable[PluginSpec]:
    yield PluginSpec("template-hello", "say what this plugin offers", "crater_ray_template.command:hello")
