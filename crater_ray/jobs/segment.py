"""Stage one over several parts: a new segment for what the parent's do not hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from crater_ray.index.fitted import read_fitted, write_fitted
from crater_ray.index.parts import PartEntry, open_part
from crater_ray.index.recipe import Recipe
from crater_ray.index.segments import Segment, read_segment, write_segment
from crater_ray.index.versions import Version

OUTGROWN = 4  # times as many new images as were there: their whitening is learnt again, over all
Build = Callable[[Path, Recipe, tuple[PartEntry, ...], str, bool, str | None], str]


def segments_for(
    root: Path,
    recipe: Recipe,
    parts: tuple[PartEntry, ...],
    parent: Version | None,
    factory: str,
    whiten: bool,
    build: Build,
) -> tuple[str, ...]:
    """The segments of a version: the parent's that still hold one of its parts, and one for all that is new.

    Rows of a part that is no longer listed stay in their segment and are masked when it is searched. All
    segments share the whitening of the first, so that their scores can be compared.
    """
    listed = {(part.name, part.digest) for part in parts}
    kept: list[Segment] = []
    for sha in parent.segments if parent else ():
        segment = read_segment(root, sha)
        holds = {(name, digest) for name, digest, _ in segment.parts}
        if (segment.factory, segment.fitted is not None) == (factory, whiten) and holds & listed:
            kept.append(segment)
    new = _uncovered(parts, kept)
    if whiten and kept and _rows(new) > OUTGROWN * sum(segment.rows for segment in kept):
        kept, new = [], _uncovered(parts, [])
    shas = [segment.sha for segment in kept]
    if new:
        shas.append(build(root, recipe, new, factory, whiten, kept[0].fitted if kept else None))
    return tuple(shas)


def _uncovered(parts: tuple[PartEntry, ...], segments: list[Segment]) -> tuple[PartEntry, ...]:
    covered = {(name, digest) for segment in segments for name, digest, _ in segment.parts}
    return tuple(part for part in parts if (part.name, part.digest) not in covered and part.rows)


def _rows(parts: tuple[PartEntry, ...]) -> int:
    return sum(part.rows for part in parts)


def on_cluster(
    root: Path,
    recipe: Recipe,
    parts: tuple[PartEntry, ...],
    factory: str,
    whiten: bool,
    fitted: str | None,
) -> str:
    """As `build`, by a worker."""
    import ray

    from crater_ray.jobs.answers import answer

    task: Any = ray.remote(num_cpus=1, max_retries=2)(build)
    return str(answer(task.remote(root, recipe, parts, factory, whiten, fitted)))


def build(
    root: Path,
    recipe: Recipe,
    parts: tuple[PartEntry, ...],
    factory: str,
    whiten: bool,
    fitted: str | None,
) -> str:
    """The sha of the segment of `parts`, whitened by `fitted` or, where that is None, by what they teach."""
    from crater_ray.search import whitening
    from crater_ray.search.shortlist import FLAT, Shortlist

    write = None  # Flat: vectors.npy is the index already
    if whiten or factory != FLAT:
        vectors = np.concatenate([np.asarray(open_part(root, part).vectors) for part in parts])
        if whiten and fitted is None:
            fitted = write_fitted(root, whitening.learn(vectors, recipe.seed))
        if factory != FLAT:
            if fitted is not None:
                vectors = whitening.whiten(vectors, read_fitted(root, fitted))
            write = Shortlist.build(vectors, factory, recipe.seed).save
    return write_segment(
        root,
        parts,
        factory=factory,
        seed=recipe.seed,
        m=recipe.shortlist_m,
        dim=recipe.shortlist_dim,
        fitted=fitted,
        write=write,
    )
