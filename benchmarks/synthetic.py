"""An index of as many views as asked for, in the real format, drawn from a real index's views.

    python benchmarks/synthetic.py indexes/moon20k-default OUT --views 1000000 [--queries 500] [--seed 0]

A drawn crater has some real craters as parents, the second and third among those that are most like the
first. Each token of its two views is one of a view of the first and what is most like it in the others, in
the crater's own shares (mixed), turned by the crater's own angles (rotated: angles between its tokens stay
what they were), and moved by noise. Its shortlist vector is the mean of its kept tokens, much as
`[shortlist] name = "whitened_tokens"`, `of = "mean"` gives it (of all of them): nothing is assumed of how it
and the tokens hang together.
Queries are other views of craters of which the index has one. `Process` has the numbers;
docs/benchmarks/scale.md compares how far the nearest views are, drawn and real. Seeded: the same command
gives the same bytes. Run it again after a stop: parts that are done stay. Memory holds the real index and one
part, whatever the number of views. With `--copy` the real views themselves get that shortlist vector.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from crater_ray.index.config import IndexConfig, create_or_check
from crater_ray.index.fitted import read_fitted, write_fitted
from crater_ray.index.lock import DriverLock
from crater_ray.index.parts import BASE_COLUMNS, PartEntry, done, part_digest
from crater_ray.index.snapshot import Snapshot
from crater_ray.index.store import store_at
from crater_ray.index.versions import Version, latest, numbers, publish
from crater_ray.index.writer import PartWriter, items_schema
from crater_ray.jobs.segment import build, segments_for
from crater_ray.plugins import PluginRef, registry
from crater_ray.search.codecs import codec
from crater_ray.types import Item

PART = 20_000  # views of a part
BLOCK = 250  # views drawn at a time: their tokens stay in the processor's cache
ALIKE = 100  # craters that are looked up as being like one
QUERIES = 1 << 40  # the number that the part of queries is drawn from
BANK = 1 << 22  # normal numbers that noise is cut from, at random places
COLUMNS = pa.schema(
    [("body", pa.string()), ("lat", pa.float64()), ("lon", pa.float64()), ("diameter_km", pa.float64())]
)
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Process:
    """The numbers that were set so that the nearest views are as far as real ones: see scale.md."""

    parents: int = 3  # real craters that a drawn one takes its tokens from
    alike: int = 100  # the first is any, the others are among so many that are most like it
    evenness: float = 4.0  # of their shares: Dirichlet's
    turn: float = 0.4  # radians, the spread of a crater's angles
    noise: float = 0.2  # length of what is added to a unit token, of a view


class Real:
    """The views that all is drawn from: N views, G craters with two or more of them."""

    def __init__(self, root: Path) -> None:
        opened = Snapshot(store_at(root))
        self.config, self.root = opened.config, root
        codes, self.scales = opened.gather(np.arange(len(opened)))
        self.codes = codes.reshape(len(opened), self.config.k, -1)
        groups = np.array(opened.groups.to_pylist())
        order = np.argsort(groups, kind="stable")
        starts = np.flatnonzero(np.r_[True, groups[order][1:] != groups[order][:-1]])
        sizes = np.diff(np.r_[starts, len(order)])
        starts = starts[sizes > 1]
        self.pairs = np.stack([order[starts], order[starts + 1]], 1)  # (craters, 2) rows
        self.alike = self._alike(min(ALIKE, len(self.pairs)))

    def _alike(self, count: int) -> Array:
        """(craters, count) for each crater those whose tokens' means are nearest, itself first."""
        means = [vectors_of(self.tokens(np.repeat(rows[:, :1], self.config.k, 1))) for rows in self._runs()]
        vectors = torch.from_numpy(np.concatenate(means)[:, 0].astype(np.float32))
        nearest = [
            (vectors[at : at + 512] @ vectors.T).topk(count, 1)[1] for at in range(0, len(vectors), 512)
        ]
        return torch.cat(nearest).numpy()

    def _runs(self) -> Iterator[Array]:
        return (self.pairs[at : at + BLOCK] for at in range(0, len(self.pairs), BLOCK))

    def tokens(self, rows: Array) -> Array:
        """(n, K, D) float32 unit tokens; rows (n, K), the view that each of the K is taken from."""
        k, dim = self.config.k, self.config.dim
        taken = self.codes[rows, np.arange(k)].reshape(len(rows), -1)
        integers = codec(self.config.codec).operand(taken, k, dim)
        return unit(integers.reshape(len(rows), k, dim).astype(np.float32))


class Drawing:
    """Views of one part, or queries: a source of random numbers of its own."""

    def __init__(self, real: Real, process: Process, seed: tuple[int, ...]) -> None:
        self.real, self.process = real, process
        self.random = np.random.default_rng(seed)
        self.bank = np.random.default_rng([seed[0], 7]).standard_normal(BANK, np.float32)

    def views(self, count: int) -> Array:
        """Tokens (n, K, D) float32 of `count` views, two a crater."""
        craters = -(-count // 2)
        real, random, k, process = self.real, self.random, self.real.config.k, self.process
        first = random.integers(0, len(real.pairs), craters)
        others = random.integers(1, process.alike, (craters, process.parents - 1))
        parents = real.pairs[np.c_[first, real.alike[first[:, None], others]]]
        shares = random.dirichlet([process.evenness] * process.parents, craters)
        angles = random.standard_normal((craters, real.config.dim // 2), np.float32) * process.turn
        shares = np.repeat(shares.astype(np.float32), 2, 0)[:count]
        views = parents.transpose(0, 2, 1).reshape(2 * craters, -1)[:count]  # of each parent the same view
        own = real.tokens(np.repeat(views[:, :1], k, 1))
        tokens = shares[:, :1, None] * own
        for parent in range(1, process.parents):
            theirs = real.tokens(np.repeat(views[:, parent, None], k, 1))
            tokens += shares[:, parent, None, None] * matched(own, theirs)
        return self.moved(turned(unit(tokens), np.repeat(angles, 2, 0)[:count]), process.noise)

    def moved(self, rows: Array, noise: float) -> Array:
        """Rows (n, k, D) of unit length, moved by noise of that length, and of unit length again."""
        size = rows[0].size
        starts = self.random.integers(0, BANK - size, len(rows))
        step = np.float32(noise / np.sqrt(rows.shape[2]))
        out = np.empty_like(rows)
        for number, start in enumerate(starts.tolist()):
            np.multiply(self.bank[start : start + size].reshape(rows.shape[1:]), step, out=out[number])
        out += rows
        return unit(out)


def vectors_of(tokens: Array) -> Array:
    """(n, 1, D) float16 unit means of tokens (n, K, D)."""
    return unit(tokens.mean(axis=1, keepdims=True)).astype(np.float16)


def unit(rows: Array) -> Array:
    lengths = np.sqrt(np.einsum("...d,...d->...", rows, rows))
    rows /= np.maximum(lengths, 1e-6)[..., None]
    return rows


def matched(own: Array, theirs: Array) -> Array:
    """(n, k, D) for each own token the one of theirs that is most like it."""
    best = (own @ theirs.transpose(0, 2, 1)).argmax(2)
    return np.take_along_axis(theirs, best[:, :, None], 1)


def turned(rows: Array, angles: Array) -> Array:
    """Rows (n, k, D) turned by angles (n, D / 2), each in the plane of two neighbouring axes."""
    planes = rows[:, :, : 2 * angles.shape[1]].view(np.complex64)
    planes *= np.exp(1j * angles.astype(np.complex64))[:, None]
    return rows


def write(
    real: Real, out: Path, views: int, *, seed: int, queries: int, process: Process, kept_as: str = ""
) -> None:
    """The index, and its queries at OUT/queries; what is done already is kept.

    Tokens are kept as codec `kept_as` says, as the real ones are where it is empty.
    """
    config = config_of(real, out, seed)
    if kept_as:
        size, scales = codec(kept_as).record_bytes(config.k, config.dim), codec(kept_as).scales
        config = replace(config, codec=kept_as, record_bytes=size, scales=scales)
    create_or_check(store_at(out), config)
    with DriverLock(store_at(out)):
        started, entries = time.monotonic(), [held(real, out, config, queries, seed, process)]
        for number, count in enumerate(sizes(views - queries)):
            entries.append(part(real, out, config, number, count, seed, process))
            ready = sum(entry.rows for entry in entries)
            spent = time.monotonic() - started
            print(f"{out}: {ready:,} of {views:,} views, {spent:.0f} s", end="\r", file=sys.stderr)
        print(file=sys.stderr)
        if latest(store_at(out)) is None:
            parts = tuple(sorted(entries, key=lambda entry: entry.name))
            publish(store_at(out), Version(1, 0, parts, (), (reader(out),)))


def build_shortlist(out: Path, factory: str = "auto", whiten: bool = False) -> None:
    """Builds the shortlist over the parts that are there, and publishes it, as an index job does."""
    opened = Snapshot(store_at(out))
    version = opened.version
    with DriverLock(store_at(out)):
        shas = segments_for(store_at(out), opened.config, version.parts, version, factory, whiten, build)
        if shas != version.segments:
            publish(
                store_at(out),
                replace(version, number=version.number + 1, parent=version.number, segments=shas),
            )


def sizes(views: int) -> Iterator[int]:
    for first in range(0, views, PART):
        yield min(PART, views - first)


def part(
    real: Real, out: Path, config: IndexConfig, number: int, count: int, seed: int, process: Process
) -> PartEntry:
    """One part, drawn from its own number: the same in whatever order or index it is written."""
    name = f"drawn{number:06d}"
    drawing = Drawing(real, process, (seed, number))

    def blocks() -> Iterator[tuple[pa.Table, Array]]:
        for first in range(0, count, BLOCK):
            some = min(BLOCK, count - first)
            views = np.arange(number * PART + first, number * PART + first + some)
            crater, which = views // 2, views % 2
            yield listing("S", crater, which, drawing.random), drawing.views(some)

    return kept(out, name, config, f"{real.config.digest()} {seed} {count} {process}", blocks())


def held(real: Real, out: Path, config: IndexConfig, count: int, seed: int, process: Process) -> PartEntry:
    """A part of the first views of `count` craters; their second ones are the queries."""
    drawing, tokens, tables = Drawing(real, process, (seed, QUERIES)), [], []
    for first in range(0, count, BLOCK):
        some = min(BLOCK, count - first)
        tokens.append(drawing.views(2 * some))
        tables.append(listing("Q", np.arange(first, first + some), np.zeros(some, int), drawing.random))
    what = f"{real.config.digest()} {seed} {count} {process}"
    of_queries = config_of_queries(out / "queries", config, out)
    pairs = list(zip(tables, tokens, strict=True))
    if latest(store_at(out / "queries")) is None:
        with DriverLock(store_at(out / "queries")):
            seconds = ((renamed(table), views[1::2]) for table, views in pairs)
            entry = kept(out / "queries", "queries", of_queries, what, seconds)
            publish(store_at(out / "queries"), Version(1, 0, (entry,), (), (reader(out),)))
    return kept(out, "held", config, what, ((table, views[::2]) for table, views in pairs))


def kept(
    root: Path, name: str, config: IndexConfig, what: str, blocks: Iterable[tuple[pa.Table, Array]]
) -> PartEntry:
    """A part of those items and tokens, which is there already where it was made of the same."""
    digest = part_digest(config.digest(), [Item(name, name, what)])
    there = done(store_at(root), name, digest)
    if there is not None:
        return there
    with PartWriter(store_at(root), name, digest, config, COLUMNS) as writer:
        for table, tokens in blocks:
            writer.copy(table, vectors_of(tokens), *codec(config.codec).encode(tokens))
        return writer.commit()


def listing(letter: str, craters: Array, which: Array, random: np.random.Generator) -> pa.Table:
    """Items of views of craters, somewhere on a sphere."""
    count = len(craters)
    groups = [f"{letter}{crater:08d}" for crater in craters.tolist()]
    ids = [f"{group}_x{2 + at}" for group, at in zip(groups, which.tolist(), strict=True)]
    columns = [
        ids,
        groups,
        ids,
        [""] * count,
        ["moon"] * count,
        np.degrees(np.arcsin(random.uniform(-1, 1, count))),
        random.uniform(-180, 180, count),
        8 * (random.pareto(2, count) + 1),
    ]
    schema = items_schema(COLUMNS)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.table(arrays, schema)


def renamed(table: pa.Table) -> pa.Table:
    """Items of the second views of those craters."""
    ids = pa.array([f"{group}_x3" for group in table["group"].to_pylist()])
    return pa.table([ids, table["group"], ids, *table.columns[3:]], table.schema)


def config_of(real: Real, out: Path, seed: int) -> IndexConfig:
    """The real one with means of tokens as shortlist vectors, under another seed: other bytes."""
    options = {**real.config.rerank.options, "of": "mean", "of_options": {}}
    shortlist = registry().ref("aggregator", real.config.rerank.name, options)
    sha = write_fitted(store_at(out), read_fitted(store_at(real.root), real.config.fits["rerank"]))
    return replace(
        real.config,
        shortlist=shortlist,
        shortlist_m=1,
        shortlist_dim=real.config.dim,
        seed=seed + 1,
        fits={"rerank": sha, "shortlist": sha},
    )


def config_of_queries(folder: Path, config: IndexConfig, gallery: Path) -> IndexConfig:
    """That of an index's queries, made current."""
    size = codec("fp16").record_bytes(config.k, config.dim)
    for sha in config.fits.values():
        write_fitted(store_at(folder), read_fitted(store_at(gallery), sha))
    return create_or_check(
        store_at(folder), replace(config, side="query", codec="fp16", record_bytes=size, scales=0)
    )


def copy(real: Real, out: Path) -> None:
    """The real views and queries with means of tokens as shortlist vectors; every version of the queries."""
    config = config_of(real, out, 0)
    create_or_check(store_at(out), config)
    _copy(Snapshot(store_at(real.root)), out, config, 1)
    of_queries = config_of_queries(out / "queries", config, out)
    for number in numbers(store_at(real.root / "queries")):
        _copy(Snapshot(store_at(real.root / "queries"), number), out / "queries", of_queries, number)


def _copy(opened: Snapshot, out: Path, config: IndexConfig, number: int) -> None:
    if number in numbers(store_at(out)):
        return
    entries = []
    with DriverLock(store_at(out)):
        for old in opened.parts:
            codes, scales = np.asarray(old.codes), np.asarray(old.scales)
            tokens = codec(config.codec).decode(codes, scales, config.k, config.dim)
            table = old.items()
            own = pa.schema([field for field in table.schema if field.name not in BASE_COLUMNS])
            with PartWriter(store_at(out), old.entry.name, old.entry.digest, config, own) as writer:
                writer.copy(table, vectors_of(tokens), codes, scales)
                entries.append(writer.commit())
        publish(store_at(out), Version(number, number - 1, tuple(entries), (), opened.version.readers))


def reader(out: Path) -> PluginRef:
    """What would load the images, if there were any."""
    return registry().ref("reader", "folder", {"root": str(out.resolve() / "images")})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("real", type=Path, help="the index to draw from")
    parser.add_argument("out", type=Path)
    parser.add_argument("--views", type=lambda text: int(float(text)), default=10_000)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--codec", default="", help="other than the real index's")
    parser.add_argument("--copy", action="store_true", help="the real views, none drawn")
    options = parser.parse_args()
    torch.set_num_threads(1)
    real = Real(options.real)
    if options.copy:
        copy(real, options.out)
    else:
        asked = {"seed": options.seed, "queries": options.queries, "kept_as": options.codec}
        write(real, options.out, options.views, process=Process(), **asked)
    build_shortlist(options.out)


if __name__ == "__main__":
    main()
