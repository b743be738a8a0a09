"""Which searcher has which segments of a version: whole ones, evened out by bytes, the same everywhere."""

from __future__ import annotations

from pathlib import Path

from crater_ray.index.config import read_config
from crater_ray.index.segments import read_segment
from crater_ray.index.snapshot import owners
from crater_ray.index.store import store_at
from crater_ray.index.versions import read


def spread(root: Path, version: int, shards: int) -> list[list[str]]:
    """The segments' shas of each shard, in the version's order; a shard may have none.

    The largest segment goes first, each to the shard with the fewest bytes so far.
    Raises IndexMismatch for a version that is not there, DamagedIndex.
    """
    config, published = read_config(store_at(root)), read(store_at(root), version)
    segments = [read_segment(store_at(root), sha) for sha in published.segments]
    each = config.record_bytes + 4 * config.scales + 2 * config.shortlist_m * config.shortlist_dim
    size = {segment.sha: 0 for segment in segments}
    for part, sha in zip(published.parts, owners(published, segments), strict=True):
        if sha is not None:
            size[sha] += part.rows * each
    loads, shard_of = [0] * shards, {}
    for sha in sorted(size, key=lambda sha: (-size[sha], sha)):
        least = loads.index(min(loads))
        shard_of[sha], loads[least] = least, loads[least] + size[sha]
    return [
        [segment.sha for segment in segments if shard_of[segment.sha] == shard] for shard in range(shards)
    ]
