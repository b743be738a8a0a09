"""A test rig as a stranger's plugin: coloured images from nowhere, and readers that misbehave on demand."""

from crater_ray.plugins import File, Options, PluginSpec, hookimpl

crater_ray_seam = 1


class DisksOptions(Options):
    items: int = 40
    per_part: int = 10
    step: int = 0  # of the item names: another catalogue
    gate: File | None = None  # a FIFO: the worker writes its pid there at `gate_item` and waits to be killed
    gate_item: str = ""
    bad: tuple[str, ...] = ()  # ids whose bytes are no image
    deadly: tuple[str, ...] = ()  # ids that kill the worker that loads them
    raises: tuple[str, ...] = ()  # ids whose load raises OSError
    twice: bool = False  # the first part lists an id twice
    broken_part: str = ""  # a part that cannot be listed


class FaultyOptions(Options):
    items: int = 40
    per_part: int = 10
    fault: str = ""  # unlisted, again: while they are listed; segfault, hang, error: while they are loaded
    at: tuple[str, ...] = ()  # ids
    events: File | None = None  # a FIFO that every load writes to
    pause: float = 0.0  # seconds that each load takes


class ListedOptions(Options):
    path: File


class FakeOptions(Options):
    dim: int = 16
    grid: int = 4
    image_size: int = 32


class FaultyBackboneOptions(Options):
    fault: str


class FailingBackboneOptions(Options):
    fault: str
    after: int | None = None
    above: int | None = None
    once: str | None = None  # a path that need not be there


class WhitenedOptions(Options):
    dim: int = 8


@hookimpl
def register_readers():
    yield PluginSpec("disks", "coloured disks", "crater_ray_rig.disks:Disks", DisksOptions)
    yield PluginSpec("faulty", "disks that fail", "crater_ray_rig.faulty:Faulty", FaultyOptions)
    yield PluginSpec("listed", "what a JSON file lists", "crater_ray_rig.listed:Listed", ListedOptions)


@hookimpl
def register_backbones():
    yield PluginSpec(
        "fake", "colours through a fixed projection", "crater_ray.testing:FakeBackbone", FakeOptions
    )
    yield PluginSpec(
        "faulty_backbone",
        "breaks its promises",
        "crater_ray_rig.faulty:FaultyBackbone",
        FaultyBackboneOptions,
    )
    yield PluginSpec(
        "failing_backbone",
        "on a device that fails",
        "crater_ray_rig.faulty:failing_backbone",
        FailingBackboneOptions,
    )


@hookimpl
def register_aggregators():
    yield PluginSpec("wrong_k", "a token more than promised", "crater_ray_rig.faulty:WrongK")
    yield PluginSpec(
        "whitened_mean",
        "the mean token, PCA-whitened",
        "crater_ray_rig.whitened:WhitenedMean",
        WhitenedOptions,
        fits=True,
    )
