"""crater-ray: instance-level retrieval of craters and photographs on Ray.

load_job(job) -> Job           a checked job, of a file or a dict
build_index(job) -> report     what `crater-ray index` does; so do evaluate(job) and neighbours(job)
open_index(path) -> Index      an index; .search(image) or .search(SearchRequest(…)) -> hits
embed(job, images) -> vectors, tokens
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crater_ray.api import build_index, evaluate, neighbours
    from crater_ray.config import load_job
    from crater_ray.encoders import embed
    from crater_ray.hits import Hits
    from crater_ray.request import Box, Filter, Near, Place, SearchRequest
    from crater_ray.retrieve import open_index

__version__ = "0.1.0"
__all__ = [
    "Box",
    "Filter",
    "Hits",
    "Near",
    "Place",
    "SearchRequest",
    "__version__",
    "build_index",
    "embed",
    "evaluate",
    "load_job",
    "neighbours",
    "open_index",
]

_WHERE = {
    **dict.fromkeys(("Box", "Filter", "Near", "Place", "SearchRequest"), "crater_ray.request"),
    **dict.fromkeys(("build_index", "evaluate", "neighbours"), "crater_ray.api"),
    "Hits": "crater_ray.hits",
    "load_job": "crater_ray.config",
    "embed": "crater_ray.encoders",
    "open_index": "crater_ray.retrieve",
}


def __getattr__(name: str) -> Any:
    """The public names, imported on first use: `import crater_ray` stays light."""
    import importlib

    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'crater_ray' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
