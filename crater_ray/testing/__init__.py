"""For plugin authors: conformance checks for each kind of plugin, and tiny stand-ins for the rest.

    from crater_ray.testing import check_aggregator
    from my_package.spread import Spread

    def test_my_aggregator() -> None:
        check_aggregator(Spread, k=16)

`check_plugin("crater-ray-mine")` tries all that a package registers, as a job would use it.

Each check returns nothing, or raises ConformanceError with what was promised, where, and what came instead.
Nothing here needs Ray, a network or real weights.
"""

from crater_ray.testing.checks import (
    ConformanceError,
    check_aggregator,
    check_backbone,
    check_consumer,
    check_reader,
)
from crater_ray.testing.fakes import FakeBackbone, FakeIndex, FakeReader, fake_tokens
from crater_ray.testing.plugin import check_plugin

__all__ = [
    "ConformanceError",
    "FakeBackbone",
    "FakeIndex",
    "FakeReader",
    "check_aggregator",
    "check_backbone",
    "check_consumer",
    "check_plugin",
    "check_reader",
    "fake_tokens",
]
