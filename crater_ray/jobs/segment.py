"""The shortlist over several parts: new segments for what the parent's do not hold.

What is learnt (the whitening, and the quantizer of a FAISS index that has one) is learnt once, from a sample
of all that is new, named by its content in fitted/ and shared by every segment after: their scores compare,
and they can be built at once on as many workers. Vectors pass block by block, so that memory holds a block
and the FAISS index, whatever the number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crater_ray.errors import DamagedIndex
from crater_ray.index.config import IndexConfig
from crater_ray.index.fitted import read_fitted, write_fitted
from crater_ray.index.parts import VECTORS, Part, PartEntry, open_parts
from crater_ray.index.segments import AUTO, Segment, ShortlistSpec, Write, read_segment, write_segment
from crater_ray.index.store import Store
from crater_ray.index.versions import Version

OUTGROWN = 4  # times as many new images as were there: what was learnt is learnt again, over all
MOST_ROWS = 1 << 24  # of one segment: 7 GB of SQ8 at 384 dimensions, built in some 3 GB more
BLOCK = 32_768  # vectors read, whitened and added at a time
STATE = "trained"  # the array of a quantizer's file: FAISS's own bytes of the index without vectors

Array = NDArray[Any]
Parts = tuple[PartEntry, ...]


@dataclass(frozen=True, slots=True)
class How:
    """How segments are built: what a job asks for, and what was learnt before (None: learnt now)."""

    factory: str  # of FAISS, or "auto"
    whiten: bool
    fitted: str | None = None
    quantizer: str | None = None
    auto: bool = False  # whether a rule chose the factory


Build = Callable[[Store, IndexConfig, Sequence[Parts], How], tuple[str, ...]]


def segments_for(
    store: Store,
    config: IndexConfig,
    parts: Parts,
    parent: Version | None,
    factory: str,
    whiten: bool,
    build: Build,
) -> tuple[str, ...]:
    """The segments of a version: the parent's that still hold one of its parts, and some for all that is new.

    Rows of a part that is no longer listed stay in their segment and are masked when it is searched. With
    "auto", segments of Flat that are too many rows together are built again as one with what is new.
    """
    from crater_ray.search.shortlist import FEW, FLAT

    listed = {(part.name, part.digest) for part in parts}
    kept: list[Segment] = []
    for sha in parent.segments if parent else ():
        try:
            segment = read_segment(store, sha)
        except DamagedIndex:
            continue  # its parts are as good as new: it is made again
        holds = {(name, digest) for name, digest, _ in segment.parts}
        wanted = segment.asked == factory or (factory == AUTO and segment.factory == FLAT)
        if wanted and (segment.fitted is not None) == whiten and holds & listed:
            kept.append(segment)
    if factory == AUTO:
        lists = [segment for segment in kept if segment.factory != FLAT]
        if _rows(_uncovered(parts, lists)) * config.shortlist_m >= FEW:
            kept = lists
    new = _uncovered(parts, kept)
    learnt = [segment for segment in kept if segment.learnt]
    if learnt and _rows(new) > OUTGROWN * sum(segment.rows for segment in kept):
        kept, learnt, new = [], [], _uncovered(parts, [])
    shas = [segment.sha for segment in kept]
    if new:
        how = like(kept, factory, whiten, _rows(new) * config.shortlist_m)
        shas += build(store, config, shares(new), how)
    return tuple(shas)


def like(segments: Sequence[Segment], factory: str, whiten: bool, vectors: int) -> How:
    """How so many vectors more are built beside those segments: what they learnt is shared."""
    from crater_ray.search.shortlist import FLAT, chosen

    taught = [segment for segment in segments if segment.quantizer is not None]
    fitted = next((segment.fitted for segment in segments if segment.fitted is not None), None)
    how = How(factory, whiten, fitted if whiten else None, auto=factory == AUTO)
    if not taught or chosen(factory, vectors) == FLAT:
        return how
    return replace(how, quantizer=taught[0].quantizer, factory=taught[0].factory)


def asked(segments: Sequence[Segment]) -> tuple[str, bool]:
    """The factory and whether vectors are whitened, as the job that made those segments asked."""
    first = next((segment for segment in segments if segment.auto), segments[0])
    return first.asked, first.fitted is not None


def shares(parts: Sequence[PartEntry], most: int = MOST_ROWS) -> list[Parts]:
    """Runs of parts of `most` rows at most: each becomes a segment."""
    found: list[list[PartEntry]] = [[]]
    rows = 0
    for part in parts:
        if found[-1] and rows + part.rows > most:
            found.append([])
            rows = 0
        found[-1].append(part)
        rows += part.rows
    return [tuple(share) for share in found if share]


def on_cluster(store: Store, config: IndexConfig, parts: Sequence[Parts], how: How) -> tuple[str, ...]:
    """As `build`, by workers: one learns, then each segment has one."""
    import ray

    from crater_ray.jobs.ray_errors import answer

    task = ray.remote(num_cpus=1, max_retries=2)
    every = tuple(part for share in parts for part in share)
    taught: How = answer(task(learn).remote(store, config, every, how))
    one: Any = task(build_one)
    return tuple(str(answer(sha)) for sha in [one.remote(store, config, share, taught) for share in parts])


def build(store: Store, config: IndexConfig, parts: Sequence[Parts], how: How) -> tuple[str, ...]:
    """The shas of a segment for each run of parts; what they learn is shared. Raises StorageFull."""
    taught = learn(store, config, tuple(part for share in parts for part in share), how)
    return tuple(build_one(store, config, share, taught) for share in parts)


def learn(store: Store, config: IndexConfig, parts: Parts, how: How) -> How:
    """`how` with its factory chosen and all that is still to be learnt learnt from a sample of the parts.

    The same parts teach the same, in whatever order they come.
    """
    from crater_ray.search import whitening
    from crater_ray.search.shortlist import Shortlist, chosen, learns, learns_from

    every = Vectors(store, config, sorted(parts, key=lambda part: (part.name, part.digest)))
    how = replace(how, factory=chosen(how.factory, len(every) * config.shortlist_m))
    if how.whiten and how.fitted is None:
        drawn = whitening.drawn(len(every) * config.shortlist_m, config.shortlist_dim, config.seed)
        how = replace(how, fitted=write_fitted(store, whitening.learn_from(every.flat(drawn))))
    axes = len(read_fitted(store, how.fitted)["axes"]) if how.fitted else config.shortlist_dim
    if how.quantizer is not None or not learns(how.factory, axes):
        return how
    left = np.delete(np.arange(len(every)), every.held_out())
    most = max(1, learns_from(how.factory) // config.shortlist_m)
    rows = np.sort(np.random.default_rng(config.seed).permutation(left)[:most])
    learnt = Shortlist.learn(every.compared(how.fitted).rows(rows), how.factory)
    return replace(how, quantizer=write_fitted(store, {STATE: learnt.state()}))


def build_one(store: Store, config: IndexConfig, parts: Parts, how: How) -> str:
    """The sha of the segment of `parts`; of one with lists it is measured how many a query looks into."""
    from crater_ray.search.shortlist import FLAT

    flat = how.factory == FLAT  # vectors.npy is the index already
    spec = ShortlistSpec(
        how.factory,
        config.seed,
        config.shortlist_m,
        config.shortlist_dim,
        fitted=how.fitted,
        quantizer=None if flat else how.quantizer,
        auto=how.auto and not flat,
    )
    write = None if flat else _writer(Vectors(store, config, parts).compared(how.fitted), how)
    return write_segment(store, parts, spec, write)


def _writer(vectors: Vectors, how: How) -> Write:
    """What makes and measures the FAISS file of a segment."""

    def write(path: Path) -> dict[str, Any] | None:
        from crater_ray.search import nprobe
        from crater_ray.search.shortlist import Shortlist

        if how.quantizer is None:
            shortlist = Shortlist.learn(vectors.rows(np.empty(0, np.int64)), how.factory)
        else:
            shortlist = Shortlist.taught(read_fitted(vectors.store, how.quantizer)[STATE], vectors.m)
        for _, block in vectors:
            shortlist.add(block)
        shortlist.check_mask(how.factory)
        aside = vectors.held_out()
        own = np.sort(np.random.default_rng(vectors.seed).permutation(aside)[: nprobe.QUERIES])
        queries = vectors.rows(own)
        found = nprobe.tune(shortlist, queries, own, nprobe.nearest(queries, own, vectors))
        shortlist.save(path)
        return None if found is None else asdict(found)

    return write


class Vectors:
    """Shortlist vectors of several parts, read as they are asked for: rows (n, m, G), blocks in order."""

    def __init__(
        self, store: Store, config: IndexConfig, parts: Sequence[PartEntry], fitted: str | None = None
    ) -> None:
        self.store, self.entries, self.config = store, parts, config
        self.m, self.dim, self.seed = config.shortlist_m, config.shortlist_dim, config.seed
        self.learnt = None if fitted is None else read_fitted(store, fitted)
        self.parts: list[Part] = open_parts(store, parts, [VECTORS])
        self.offsets = np.cumsum([0, *(len(part) for part in self.parts)])

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def held_out(self) -> Array:
        """(n,) rows that nothing is learnt from, ascending: the same of a part wherever it stands."""
        from crater_ray.search.nprobe import held_out

        rows = [
            offset + held_out(part.rows, int(part.digest, 16) ^ self.seed)
            for part, offset in zip(self.entries, self.offsets.tolist(), strict=False)
        ]
        return np.concatenate(rows) if rows else np.empty(0, np.int64)

    def compared(self, fitted: str | None) -> Vectors:
        """The same ones, whitened as they are read."""
        return Vectors(self.store, self.config, self.entries, fitted)

    def rows(self, rows: Array) -> Array:
        """(n, m, G) of those rows, ascending."""
        found = np.empty((len(rows), self.m, self.dim), np.float16)
        owner = np.searchsorted(self.offsets, rows, "right") - 1
        for number in np.unique(owner).tolist():
            at = np.flatnonzero(owner == number)
            found[at] = self.parts[number].vectors[rows[at] - self.offsets[number]]
        return self._whitened(found)

    def flat(self, places: Array) -> Array:
        """(n, G) of single vectors by their places among all, ascending."""
        found = np.empty((len(places), self.dim), np.float16)
        owner = np.searchsorted(self.offsets * self.m, places, "right") - 1
        for number in np.unique(owner).tolist():
            at = np.flatnonzero(owner == number)
            every = self.parts[number].vectors.reshape(-1, self.dim)
            found[at] = every[places[at] - self.offsets[number] * self.m]
        return found

    def __iter__(self) -> Iterator[tuple[int, Array]]:
        """(first row, vectors) of a block of a part after the other."""
        step = max(1, BLOCK // self.m)
        for part, offset in zip(self.parts, self.offsets.tolist(), strict=False):
            for first in range(0, len(part), step):
                yield offset + first, self._whitened(np.asarray(part.vectors[first : first + step]))

    def _whitened(self, vectors: Array) -> Array:
        from crater_ray.search.whitening import whiten

        return vectors if self.learnt is None else whiten(vectors, self.learnt)


def _uncovered(parts: Parts, segments: list[Segment]) -> Parts:
    covered = {(name, digest) for segment in segments for name, digest, _ in segment.parts}
    return tuple(part for part in parts if (part.name, part.digest) not in covered and part.rows)


def _rows(parts: Parts) -> int:
    return sum(part.rows for part in parts)
