"""The shortlist index: FAISS inner product over shortlist vectors. An image scores its best pair of vectors.

An image's score is the largest inner product of any of the query's m' vectors with any of the image's m.
The s * m best vectors for one query vector hold the s best images for it, and each of the s best images
overall is among the s best for some query vector; so s * m results a query vector are exact wherever the
FAISS index itself is (Flat).

The factory "auto" is a rule of the number of vectors. Below FEW it is Flat: exhaustive, nothing is learnt,
and one thread reads them in a few milliseconds. Above it is IVF{lists},SQ8, its nprobe tuned (nprobe.py).
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crater_ray.errors import DamagedIndex
from crater_ray.search import filtered
from crater_ray.search.filtered import Lists, faiss, lists_of, parameters
from crater_ray.types import CANDIDATES

Vectors = NDArray[np.floating[Any]]
Rows = NDArray[np.int64]
State = NDArray[np.uint8]
AUTO: Final = "auto"
FLAT: Final = "Flat"
FEW: Final = 32_768  # vectors; 50 MB of float32 at 384 dimensions, read in 3 ms
LISTS_PER_ROOT: Final = 4  # lists are the power of two nearest to 4 sqrt(vectors), as FAISS advises
LEARNT_A_LIST: Final = 48  # vectors that k-means learns a list from; FAISS warns below 39
LEARNT: Final = 131_072  # vectors that any other factory learns from, at most
BLOCK = 65_536  # vectors converted to float32 at a time
NLIST_PER_NPROBE = 16  # a sixteenth of the lists is searched where nothing was measured
LEAST_NPROBE = 8


class Shortlist:
    """N images of m vectors each, in a FAISS index. Made by `build`, `learn`, `taught` or `load`."""

    def __init__(self, index: Any, m: int, threads: int | None = None) -> None:
        if threads is not None:
            faiss.omp_set_num_threads(threads)
        self.index, self.m = index, m
        self._read: tuple[int, Lists | None] | None = None  # of so many vectors

    def __len__(self) -> int:
        return int(self.index.ntotal) // self.m

    @classmethod
    def build(
        cls, vectors: Vectors, factory: str = FLAT, seed: int = 0, *, threads: int | None = None
    ) -> Shortlist:
        """Over vectors (N, m, G) float16 or float32, by a FAISS factory string; trained on a seeded sample.

        `threads` sets FAISS's number for the whole process; None leaves it. Raises ValueError for a factory
        string that FAISS does not take, does not fit these vectors or cannot filter, and for vectors not
        finite.
        """
        _check(vectors)
        count = vectors.shape[0] * vectors.shape[1]
        some = vectors
        if factory != FLAT and learns_from(factory) < count:
            images = max(1, learns_from(factory) // vectors.shape[1])
            some = vectors[np.sort(np.random.default_rng(seed).permutation(len(vectors))[:images])]
        shortlist = cls.learn(some, factory, threads=threads)
        shortlist.add(vectors)
        shortlist.check_mask(factory)
        return shortlist

    @classmethod
    def learn(cls, sample: Vectors, factory: str, *, threads: int | None = None) -> Shortlist:
        """An empty one that has learnt from a sample (n, m, G). Raises ValueError as `build`."""
        _check(sample)
        _, m, dim = sample.shape
        try:
            index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            raise ValueError(
                f"[shortlist] index = {factory!r} is no FAISS index of {dim} dimensions: {_reason(error)}"
            ) from error
        shortlist = cls(index, m, threads)
        if shortlist.nlist:
            shortlist.nprobe = min(shortlist.nlist, max(LEAST_NPROBE, shortlist.nlist // NLIST_PER_NPROBE))
        if len(sample) and not index.is_trained:
            flat = _finite(sample.reshape(-1, dim), "the sample", 0)
            try:
                index.train(flat)
            except RuntimeError as error:
                raise ValueError(
                    f"[shortlist] index = {factory!r} does not fit {len(flat)} vectors of {dim}: "
                    f"{_reason(error)}"
                ) from error
        return shortlist

    @classmethod
    def taught(cls, state: State, m: int) -> Shortlist:
        """An empty one that has learnt what `state()` told: segments that share it compare alike."""
        try:
            return cls(faiss.deserialize_index(np.ascontiguousarray(state)), m)
        except RuntimeError as error:
            raise DamagedIndex(f"the shortlist's quantizer is no FAISS index: {_reason(error)}") from error

    def state(self) -> State:
        """What it has learnt, as bytes; of an empty one."""
        told: State = faiss.serialize_index(self.index)
        return told

    def add(self, vectors: Vectors) -> None:
        """Images after those that are there. Raises ValueError for vectors not finite or of another shape."""
        _check(vectors)
        if vectors.shape[1:] != (self.m, self.index.d):
            raise ValueError(f"vectors are {vectors.shape}; (images, {self.m}, {self.index.d}) are asked for")
        flat = vectors.reshape(-1, self.index.d)
        for start in range(0, len(flat), BLOCK):
            self.index.add(_finite(flat[start : start + BLOCK], "the vectors", start))

    def warm(self) -> None:
        """Reads what a search under a mask needs of the lists, so that the first one does not wait for it."""
        self._lists()

    def _lists(self) -> Lists | None:
        count = int(self.index.ntotal)
        if self._read is None or self._read[0] != count:
            self._read = count, lists_of(self.index)
        return self._read[1]

    @property
    def nlist(self) -> int:
        """Lists of an IVF index, 0 for another."""
        inverted = faiss.try_extract_index_ivf(self.index)
        return 0 if inverted is None else int(inverted.nlist)

    @property
    def nprobe(self) -> int:
        """Lists that a query scans, 0 where there are none. The file keeps it."""
        inverted = faiss.try_extract_index_ivf(self.index)
        return 0 if inverted is None else int(inverted.nprobe)

    @nprobe.setter
    def nprobe(self, count: int) -> None:
        faiss.extract_index_ivf(self.index).nprobe = count

    def check_mask(self, factory: str) -> None:
        """Raises ValueError where it cannot be searched under a mask, as filters and dropped parts ask."""
        if self.index.ntotal:
            mask = np.ones(self.index.ntotal, np.bool_)
            zeros = np.zeros((1, self.index.d), np.float32)
            try:
                self.index.search(zeros, 1, params=parameters(self.index, mask))
            except RuntimeError as error:
                raise ValueError(
                    f"[shortlist] index = {factory!r} cannot leave rows out, as filters and dropped parts "
                    "ask; use auto, Flat, SQ8, HNSW… or IVF…"
                ) from error

    @classmethod
    def load(cls, source: Path | str | Vectors, m: int = 1, *, threads: int | None = None) -> Shortlist:
        """From a file that `save` wrote, of m vectors an image; or Flat over vectors (N, m, G).

        Lists of an IVF index stay in the file and are mapped: they take no memory that the page cache could
        not give back. Raises DamagedIndex for a file that FAISS cannot read or that does not hold m vectors
        an image. A flipped bit goes unseen here: check the file's checksum first.
        """
        if isinstance(source, np.ndarray):
            return cls.build(source, threads=threads)
        try:
            index = faiss.read_index(str(source), faiss.IO_FLAG_MMAP)
        except RuntimeError as error:
            raise DamagedIndex(
                f"{source} is no FAISS index: {_reason(error)}; build the segment again"
            ) from error
        if index.ntotal % m or index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise DamagedIndex(
                f"{source} holds {index.ntotal} vectors, not {m} an image by inner product; build it again"
            )
        inverted = faiss.try_extract_index_ivf(index)
        if inverted is not None:
            kept = faiss.downcast_InvertedLists(inverted.invlists)
            if isinstance(kept, faiss.OnDiskInvertedLists):
                kept.prefetch_nthread = 0  # threads that FAISS would start for every query
        return cls(index, m, threads)

    def save(self, path: Path | str) -> None:
        """Writes the FAISS file. Raises OSError, a full disk included."""
        if (inverted := faiss.try_extract_index_ivf(self.index)) is not None:
            inverted.make_direct_map(False)  # which a search under a mask may have made
        with open(path, "wb") as file:  # FAISS's own writer says nothing when the disk is full at close
            faiss.write_index(self.index, faiss.PyCallbackIOWriter(file.write))

    def search(
        self, queries: Vectors, s: int, mask: NDArray[np.bool_] | None = None, *, widen: bool = True
    ) -> tuple[Rows, NDArray[np.float32]]:
        """The s best images of each query: rows (B, s) int64, -1 where there is none, and scores (B, s).

        Of fewer than s images there are as many columns.
        Queries (B, m', G). Best first, ties by row; the score is -inf where the row is -1. Only rows where
        `mask` (N,) is true are searched, and as many are found as pass (filtered.py), but where all
        are searched without `widen`. Raises ValueError for queries that are not finite or of another width.
        """
        asked = np.ascontiguousarray(queries, np.float32)
        if asked.ndim != 3 or asked.shape[1] < 1 or asked.shape[2] != self.index.d:
            raise ValueError(f"queries are {asked.shape}; (queries, vectors, {self.index.d}) are asked for")
        if not np.isfinite(asked).all():  # FAISS would answer -1 and say nothing
            raise ValueError("a shortlist query is not finite; refuse the image before it is searched for")
        count, s = len(asked), min(s, len(self))
        rows, scores = np.full((count, s), -1, np.int64), np.full((count, s), -np.inf, np.float32)
        wanted = s * self.m
        if wanted == 0 or count == 0:
            return rows, scores
        found, places = filtered.search(
            self.index,
            self._lists,
            asked.reshape(-1, self.index.d),
            wanted,
            self._vectors_of(mask),
            deepest=(CANDIDATES + 1) * self.m,  # an item that asks is its own first
            widen=widen,
        )
        found, places = found.reshape(count, -1), places.reshape(count, -1)
        for number in range(count):
            best, values = _best(places[number], found[number], self.m, s)
            rows[number, : len(best)], scores[number, : len(best)] = best, values
        return rows, scores

    def score(self, queries: Vectors, rows: Rows) -> NDArray[np.float32]:
        """(n,) what each image of `rows` (n,) scores by a query's vectors (m', G), as `search` scores it."""
        every = (np.asarray(rows, np.int64)[:, None] * self.m + np.arange(self.m)).reshape(-1)
        asked = np.ascontiguousarray(queries, np.float32)
        best: NDArray[np.float32] = filtered.products(self.index, self._lists(), asked, every).max(0)
        score: NDArray[np.float32] = best.reshape(-1, self.m).max(1)
        return score

    def _vectors_of(self, mask: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
        if mask is None:
            return None
        if mask.shape != (len(self),) or mask.dtype != np.bool_:
            raise ValueError(f"the mask is {mask.shape} {mask.dtype}; ({len(self)},) bool is asked for")
        return mask if self.m == 1 else np.repeat(mask, self.m)


def _best(places: Rows, found: NDArray[np.float32], m: int, s: int) -> tuple[Rows, NDArray[np.float32]]:
    """The s best distinct images among vectors' places (-1: none), and each one's best score."""
    there = places >= 0
    images, values = places[there] // m, found[there]
    order = np.lexsort((images, -values))
    images, values = images[order], values[order]
    first = np.sort(np.unique(images, return_index=True)[1])[:s]
    return images[first], values[first]


def learns(factory: str, dim: int) -> bool:
    """Whether an index of that factory is trained before it takes vectors. Raises ValueError as `build`."""
    empty = Shortlist.learn(np.empty((0, 1, dim), np.float32), factory)
    return not empty.index.is_trained


def _check(vectors: Vectors) -> None:
    if vectors.ndim != 3 or vectors.shape[1] < 1 or vectors.shape[2] < 1:
        raise ValueError(f"vectors are {vectors.shape}; (images, vectors, dimensions) are asked for")


def _finite(vectors: Vectors, where: str, start: int) -> NDArray[np.float32]:
    values = np.ascontiguousarray(vectors, np.float32)
    broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(broken):  # FAISS would take it, and the image would never be found
        raise ValueError(f"shortlist vector {start + broken[0]} of {where} is not finite")
    return values


def _reason(error: RuntimeError) -> str:
    """What FAISS says, without the C++ place it says it from."""
    return str(error).rsplit(".cpp:", 1)[-1].partition(": ")[2].strip() or str(error)


def chosen(factory: str, vectors: int) -> str:
    """The factory string itself, or what "auto" means for that many vectors."""
    if factory != AUTO:
        return factory
    return FLAT if vectors < FEW else f"IVF{lists(vectors)},SQ8"


def lists(vectors: int) -> int:
    """Of an IVF index over that many vectors."""
    return int(2 ** round(math.log2(LISTS_PER_ROOT * math.sqrt(max(vectors, 1)))))


def learns_from(factory: str) -> int:
    """Vectors that its training reads, at most."""
    found = re.search(r"IVF(\d+)", factory)
    return LEARNT if found is None else LEARNT_A_LIST * max(int(found.group(1)), 1)
