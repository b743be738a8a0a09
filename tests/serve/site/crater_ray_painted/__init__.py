"""A stranger's plugin for the tests of serving: painted craters at places on a body."""

from crater_ray.plugins import Options, PluginSpec, hookimpl

crater_ray_seam = 1


class PaintedOptions(Options):
    items: int = 24
    first: int = 0


class FakeOptions(Options):
    dim: int = 16
    grid: int = 4
    image_size: int = 32


@hookimpl
def register_readers():
    yield PluginSpec(
        "painted", "painted craters", "crater_ray_painted.painted:Painted", PaintedOptions, cuts=True
    )


@hookimpl
def register_backbones():
    yield PluginSpec("painted_fake", "a small projection", "crater_ray.testing:FakeBackbone", FakeOptions)
