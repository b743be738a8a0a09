"""The seam: what a plugin author imports. Importing it imports neither torch nor ray.

from crater_ray.plugins import PluginSpec, Options, hookimpl

@hookimpl
def register_readers():
    yield PluginSpec("meteorites", "finds from a table", "my_package.reader:Meteorites", MyOptions)
"""

from crater_ray.plugins.hookspecs import GROUP, hookimpl
from crater_ray.plugins.protocols import (
    Aggregator,
    Ask,
    Asymmetric,
    Backbone,
    Consumer,
    Cuts,
    Fitted,
    Index,
    Interview,
    LoadsMany,
    Located,
    Reader,
)
from crater_ray.plugins.registry import PluginStatus, Registry, registry
from crater_ray.plugins.specs import KINDS, File, Kind, Options, PluginRef, PluginSpec, Question

__all__ = [
    "GROUP",
    "KINDS",
    "Aggregator",
    "Ask",
    "Asymmetric",
    "Backbone",
    "Consumer",
    "Cuts",
    "File",
    "Fitted",
    "Index",
    "Interview",
    "Kind",
    "LoadsMany",
    "Located",
    "Options",
    "PluginRef",
    "PluginSpec",
    "PluginStatus",
    "Question",
    "Reader",
    "Registry",
    "hookimpl",
    "registry",
]
