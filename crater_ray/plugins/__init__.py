"""The seam: what a plugin author imports. Importing it imports neither torch nor ray.

from crater_ray.plugins import Label, Options, hookimpl

@hookimpl
def register_readers():
    yield Label("meteorites", "finds from a table", "my_package.reader:Meteorites", MyOptions)
"""

from crater_ray.plugins.hookspecs import GROUP, hookimpl
from crater_ray.plugins.labels import KINDS, File, Kind, Label, Options, Ref
from crater_ray.plugins.protocols import Aggregator, Backbone, Consumer, Fitted, Index, Located, Reader
from crater_ray.plugins.registry import Registry, Row, registry

__all__ = [
    "GROUP",
    "KINDS",
    "Aggregator",
    "Backbone",
    "Consumer",
    "File",
    "Fitted",
    "Index",
    "Kind",
    "Label",
    "Located",
    "Options",
    "Reader",
    "Ref",
    "Registry",
    "Row",
    "hookimpl",
    "registry",
]
