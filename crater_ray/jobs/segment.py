"""Stage one over several parts, built by a worker: a new segment for what the parent's do not hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import ray

from crater_ray.index.parts import PartEntry, open_part
from crater_ray.index.segments import read_segment, write_segment
from crater_ray.index.versions import Version
from crater_ray.jobs.answers import answer
from crater_ray.jobs.part import Work


def segments_for(
    work: Work, parts: tuple[PartEntry, ...], parent: Version | None, factory: str
) -> tuple[str, ...]:
    """The segments of a version: the parent's that still hold one of its parts, and one for all that is new.

    Rows of a part that is no longer listed stay in their segment and are masked when it is searched.
    """
    root = Path(work.root)
    listed = {(part.name, part.digest) for part in parts}
    kept: list[str] = []
    covered: set[tuple[str, str]] = set()
    for sha in parent.segments if parent else ():
        segment = read_segment(root, sha)
        holds = {(name, digest) for name, digest, _ in segment.parts}
        if segment.factory == factory and holds & listed:
            kept.append(sha)
            covered |= holds
    new = tuple(part for part in parts if (part.name, part.digest) not in covered and part.rows)
    if new:
        kept.append(answer(_build.options(num_cpus=1).remote(work, new, factory)))
    return tuple(kept)


@ray.remote(max_retries=2)
def _build(work: Work, parts: tuple[PartEntry, ...], factory: str) -> str:
    root, recipe = Path(work.root), work.recipe
    if factory == "Flat":  # vectors.npy is the index already
        return write_segment(
            root, parts, factory=factory, seed=recipe.seed, m=recipe.shortlist_m, dim=recipe.shortlist_dim
        )
    from crater_ray.search.shortlist import Shortlist

    vectors = np.concatenate([np.asarray(open_part(root, part).vectors) for part in parts])
    built = Shortlist.build(vectors, factory, recipe.seed)
    return write_segment(
        root,
        parts,
        factory=factory,
        seed=recipe.seed,
        m=recipe.shortlist_m,
        dim=recipe.shortlist_dim,
        write=built.save,
    )
