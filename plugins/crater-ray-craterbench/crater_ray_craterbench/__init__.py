"""CraterBench-R: its layout as a reader, its measurements as `bench`, and benchmarks of one's own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from crater_ray.plugins import File, Options, PluginSpec, hookimpl

crater_ray_seam = 1


class CraterBenchOptions(Options):
    root: File
    split: Literal["gallery", "query", "train"] = "gallery"


@hookimpl
def register_readers() -> Iterable[PluginSpec]:
    yield PluginSpec(
        "craterbench",
        "a folder in the CraterBench-R layout",
        "crater_ray_craterbench.reader:CraterBench",
        CraterBenchOptions,
    )


@hookimpl
def register_commands() -> Iterable[PluginSpec]:
    yield PluginSpec(
        "bench", "measure what the CraterBench-R paper measures", "crater_ray_craterbench.command:bench"
    )
    yield PluginSpec("validate", "check a CraterBench-R layout", "crater_ray_craterbench.command:validate")
    yield PluginSpec(
        "mosaic-bench",
        "write a benchmark in the CraterBench-R layout from a raster and a catalogue",
        "crater_ray_craterbench.mosaic_bench:mosaic_bench",
    )
