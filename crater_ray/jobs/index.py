"""The main job: a catalogue and its images go in, a version of an index comes out. Run again to resume."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from crater_ray.config import Job
from crater_ray.errors import ConfigError, IncompleteJob, ReaderError
from crater_ray.index import config as configs
from crater_ray.index.compacted import refuse_prefix
from crater_ray.index.config import IndexConfig
from crater_ray.index.lock import DriverLock
from crater_ray.index.parts import PartEntry, part_folder, skipped
from crater_ray.index.segments import read_segment
from crater_ray.index.store import Store, store_at
from crater_ray.index.versions import Version, latest
from crater_ray.jobs.change import Changed, Held, Mode, put, refuse_clashes, without
from crater_ray.jobs.cluster import cluster, threads_per_encoder
from crater_ray.jobs.fit import fit
from crater_ray.jobs.part import PartWorker, Work
from crater_ray.jobs.pool import Outcome, work_through
from crater_ray.jobs.preflight import Found, preflight, unfit
from crater_ray.jobs.progress import Counter
from crater_ray.jobs.segment import Build, on_cluster, segments_for
from crater_ray.plugins import PluginRef, Reader, registry
from crater_ray.types import Side, TokenShape

LISTED_HERE = 64  # parts at most that the driver reads to see whether there is anything to do


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What an index job did."""

    out: str
    version: int
    parts: int
    rows: int
    encoded: int  # images that went through the backbone in this run
    seconds: float  # of encoding
    skipped: Mapping[str, str]  # id -> reason
    missing: Mapping[str, str]  # part -> reason
    deaths: int  # of workers
    peaks: tuple[
        int, ...
    ]  # bytes, the most its worker had held when each encoded part was done, in that order
    added: int = 0  # parts that the version before had not, had otherwise, or had and this one has not
    replaced: int = 0
    dropped: int = 0
    halved: int = 0  # batches that memory did not hold, computed in halves
    shortlist: tuple[str, ...] = ()  # what each segment is, and how much it was measured to find

    def as_dict(self) -> dict[str, Any]:
        return {
            "out": self.out,
            "version": self.version,
            "parts": self.parts,
            "rows": self.rows,
            "encoded": self.encoded,
            "seconds": round(self.seconds, 3),
            "skipped": dict(self.skipped),
            "missing": dict(self.missing),
            "deaths": self.deaths,
            "added": self.added,
            "replaced": self.replaced,
            "dropped": self.dropped,
            "halved": self.halved,
            "shortlist": list(self.shortlist),
            "peak_bytes": max(self.peaks, default=0),
        }

    def as_text(self) -> str:
        lines = [f"shortlist: {line}" for line in self.shortlist if ": " in line]  # Flat finds all
        if self.deaths:
            lines.append(f"{self.deaths} worker deaths, their parts done again")
        if self.halved:
            lines.append(
                f"{self.halved} batches did not fit the memory and were computed in halves, in which the "
                "last bits may differ: lower [backbone] batch for a new index"
            )
        lines += [f"skipped {id}: {reason}" for id, reason in list(self.skipped.items())[:10]]
        if len(self.skipped) > 10:
            lines.append(
                f"skipped {len(self.skipped) - 10} more: `crater-ray info {self.out} --skipped` lists them"
            )
        lines += [f"missing part {part}: {reason}" for part, reason in self.missing.items()]
        told = f"{self.encoded:,} images encoded in {self.seconds:.1f} s"
        if self.encoded and self.seconds:
            told += f", {self.encoded / self.seconds:.1f} images/s"
        parts = f"{self.parts} part{'s' * (self.parts != 1)}"
        lines.append(
            f"{self.out}: version {self.version}, {self.rows:,} views in {parts}, "
            f"{len(self.skipped)} skipped; {told if self.encoded else 'nothing was to be encoded'}; "
            f"next: crater-ray query {self.out} IMAGE"
        )
        return "\n".join(lines)


def run(
    job: Job,
    *,
    side: Side = "gallery",
    mode: Mode = "all",
    parts: Sequence[str] = (),
    drop: Sequence[str] = (),
    allow_missing: bool = False,
    quiet: bool = False,
) -> IndexReport:
    """Encode what the job's reader lists (its [queries] for side "query") and publish a version of it.

    In mode "add" and "replace" the version also has what was current; only the `parts` named are read then,
    if any are, and those that match a pattern of `drop` leave.

    Raises the errors of preflight, IncompleteJob when parts failed (unless `allow_missing`) or no image at
    all could be used, ClusterError when workers only die or the cluster is lost, StorageFull, and
    IndexMismatch for an output that is busy, not an index, or made by another index config; ReaderError for
    parts that cannot be had, and in mode "add" and "replace" for what clashes with the current version.
    """
    store = place_of(job, side)
    reader_ref = job.reader_ref() if side == "gallery" else job.queries_ref()
    with DriverLock(store):
        if mode == "all" and (there := _all_there(store, job, side, reader_ref)) is not None:
            config, outcome = there
            with suppress(_WorkersNeeded):
                changed = _publish(store, config, outcome, reader_ref, job, mode, drop, _no_workers)
                return _report(store, outcome, changed, 0.0)
        with cluster(job.cluster):
            found = preflight(
                store, reader_ref, job.backbone_ref(), job.shortlist_ref(), job.rerank_ref(), job.path.name
            )
            work = _work(store, _config(job, side, found), reader_ref, job)
            work = _fitted(
                store, replace(work, without=tuple(sorted(unfit(job.cluster)))), job, found, side, quiet
            )
            reader: Reader = registry().build(reader_ref)
            names = _wanted(reader, reader_ref, parts)
            if mode != "all":
                refuse_clashes(store, latest(store), reader, reader_ref, names, drop, mode)
            start = time.monotonic()
            what = "index" if side == "gallery" else "queries"
            with Counter(what, len(names), quiet, images=_images(reader, names)) as counter:
                outcome = work_through(work, names, job.cluster, counter.update)
            seconds = time.monotonic() - start
            if outcome.failed and not allow_missing:
                raise IncompleteJob(_missing(outcome, len(names), store))
            _refuse_nothing_but_bad(store, outcome)
            changed = _publish(store, work.config, outcome, reader_ref, job, mode, drop, on_cluster)
            return _report(store, outcome, changed, seconds)


def _images(reader: Reader, names: Sequence[str]) -> int | None:
    """How many images the parts have; None where listing them all would take the driver long."""
    if len(names) > LISTED_HERE:
        return None
    try:
        return sum(1 for name in names for _ in reader.read(name))
    except Exception:  # of a reader, in one part: its worker names the part, and the others are encoded
        return None


def _work(store: Store, config: IndexConfig, reader: PluginRef, job: Job) -> Work:
    return Work(
        store.url,
        config,
        reader,
        str(job.backbone.cache) if job.backbone.cache else None,
        job.cluster.decoders,
        threads_per_encoder(job.cluster),
        "cuda" if job.cluster.gpus_per_encoder > 0 else "cpu",
    )


def _report(store: Store, outcome: Outcome, changed: Changed, seconds: float) -> IndexReport:
    version = changed.version
    return IndexReport(
        store.url,
        version.number,
        len(version.parts),
        sum(part.rows for part in version.parts),
        sum(done.encoded for done in outcome.done.values()),
        seconds,
        {id: why for part in version.parts for id, why in skipped(store, part).items()},
        outcome.failed,
        outcome.deaths,
        tuple(done.peak_bytes for done in outcome.done.values() if done.encoded),
        changed.added,
        changed.replaced,
        changed.dropped,
        sum(done.halved for done in outcome.done.values()),
        tuple(read_segment(store, sha).told() for sha in version.segments),
    )


class _WorkersNeeded(Exception):
    """The shortlist is to be built, which is the work of a cluster."""


def _no_workers(*asked: Any) -> tuple[str, ...]:
    raise _WorkersNeeded


def _all_there(store: Store, job: Job, side: Side, reader: PluginRef) -> tuple[IndexConfig, Outcome] | None:
    """The index's config and all parts that the reader lists, where the index has them all: without Ray.

    None where something is to be encoded, or only a look at the weights can tell whether they are the
    index's. Raises IndexMismatch for a job that changes the index config, ReaderError for an id listed twice.
    """
    there = configs.find_config(store)
    if there is None or latest(store) is None:
        return None
    config = _like(there, job, side)
    if config.digest() != there.digest():
        configs.create_or_check(store, config)  # which says how they differ
    if "" in config.files.values() and any(map(job.backbone_ref().options.get, _files(job.backbone_ref()))):
        return None  # of a file of weights only the backbone knows the digest
    worker = PartWorker(_work(store, config, reader, job))
    names = _wanted(worker.reader, reader, ())
    if len(names) > LISTED_HERE:
        return None
    outcome = Outcome()
    for name in reversed(names):  # what is still to be done comes last
        done = worker.find(name)
        if done is None:
            return None
        outcome.done[name] = done
    return configs.create_or_check(store, config), outcome


def _files(ref: PluginRef) -> Collection[str]:
    return registry().spec(ref).options.files()


def _like(there: IndexConfig, job: Job, side: Side) -> IndexConfig:
    """The index config of a job whose plugins give what the index has."""
    found = Found(
        "",
        there.backbone_digest,
        TokenShape(0, there.grid, 0, False),
        there.shortlist_dim,
        there.shortlist_m,
        there.k,
        there.dim,
        there.shortlist_m,
        there.k,
        tuple(there.fits),
    )
    return replace(_config(job, side, found), fits=there.fits)


def _wanted(reader: Reader, ref: PluginRef, only: Sequence[str]) -> list[str]:
    """The parts to read. Raises ReaderError where there is none, or none of a name."""
    listed = reader.parts()
    if not listed:
        raise ReaderError(f"reader {ref.name!r} lists no parts: there is nothing to index")
    refuse_prefix(listed)
    for name in only:
        if name not in listed:
            close = get_close_matches(name, listed, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"it lists {', '.join(listed[:5])} …"
            raise ReaderError(f"reader {ref.name!r} lists no part {name!r}; {hint}")
    return sorted(set(only)) or listed


def place_of(job: Job, side: Side) -> Store:
    """Queries are kept as an index beside the gallery's files: encoded once, resumable, verified alike."""
    gallery = store_at(job.out)
    return gallery if side == "gallery" else gallery.inside("queries")


def _config(job: Job, side: Side, found: Found) -> IndexConfig:
    from crater_ray.search.codecs import codec

    # queries are quantised by the kernel, not on disk
    chosen = codec(job.rerank.codec if side == "gallery" else "fp16")
    m, k = (found.shortlist_m, found.k) if side == "gallery" else (found.query_m, found.query_k)
    backbone, shortlist, rerank = job.backbone_ref(), job.shortlist_ref(), job.rerank_ref()
    rows, columns = found.shape.grid
    if job.rerank.scoring == "consistent" and not (rows == columns and k == rows * columns):
        raise ConfigError(
            "[rerank] scoring = 'consistent' compares the places of all tokens of a square grid, but "
            f"{rerank.name!r} gives {k} of {rows} × {columns}; use name = 'all', or whitened_tokens with "
            "of = 'all'"
        )
    return IndexConfig(
        side=side,
        backbone=backbone,
        shortlist=shortlist,
        rerank=rerank,
        backbone_digest=found.digest,
        files=configs.file_digests(backbone=backbone, shortlist=shortlist, rerank=rerank),
        grid=found.shape.grid,
        shortlist_m=m,
        shortlist_dim=found.shortlist_dim,
        k=k,
        dim=found.dim,
        codec=chosen.name,
        codec_version=chosen.algorithm_version,
        record_bytes=chosen.record_bytes(k, found.dim),
        scales=chosen.scales,
        scoring=job.rerank.scoring,
        batch=batch_of(job, side),
        precision=job.backbone.precision,
        max_pixels=job.index.max_pixels,
        seed=job.index.seed,
        fits={},
    )


def batch_of(job: Job, side: Side) -> int:
    """Images a pass: as the job says, else as the index there has it, else the default of its device."""
    told = "batch" in job.backbone.model_fields_set
    there = None if told else configs.find_config(place_of(job, side))
    return job.batch() if there is None else there.batch


def _fitted(store: Store, work: Work, job: Job, found: Found, side: Side, quiet: bool) -> Work:
    """The work with its fits: the index's own where it has them, else learnt now, for a new index."""
    config = work.config
    learning = found.fitted
    if learning:
        gallery = place_of(job, "gallery")
        there = configs.find_config(gallery)
        if there is not None and set(there.fits) >= set(learning):
            fits = {role: there.fits[role] for role in learning}
            if side == "query":
                _copy_fits(gallery, store, fits)
        else:
            fits = fit(work, learning, job.cluster, job.index.fit_sample, job.index.seed, quiet=quiet)
        config = replace(config, fits=fits)
    return replace(work, config=configs.create_or_check(store, config))


def _copy_fits(gallery: Store, queries: Store, fits: Mapping[str, str]) -> None:
    from crater_ray.index.fitted import read_fitted, write_fitted

    for sha in fits.values():
        write_fitted(queries, read_fitted(gallery, sha))


def _publish(
    store: Store,
    config: IndexConfig,
    outcome: Outcome,
    reader: PluginRef,
    job: Job,
    mode: Mode,
    drop: Sequence[str],
    build: Build,
) -> Changed:
    def change(parent: Version | None, before: Held) -> tuple[Held, set[str]]:
        new = {part: (done.entry, reader) for part, done in outcome.done.items()}
        failed = set(outcome.failed)
        if mode == "all" or parent is None:
            return new, failed
        stay = without(before, drop)
        return {**stay, **new}, ({*parent.allow_missing, *failed} - stay.keys() - new.keys())

    def segments(parts: tuple[PartEntry, ...], parent: Version | None) -> tuple[str, ...]:
        if config.side == "query":
            return ()
        return segments_for(store, config, parts, parent, job.shortlist.index, job.whiten(), build)

    return put(store, config, change, segments)


def _refuse_nothing_but_bad(store: Store, outcome: Outcome) -> None:
    entries = sorted((done.entry for done in outcome.done.values()), key=lambda entry: entry.name)
    bad = sum(entry.skipped for entry in entries)
    if bad and not any(entry.rows for entry in entries):
        alone = [
            entry for entry in entries if part_folder(store, entry.name, entry.digest).is_dir()
        ]  # of no compacted part
        reasons = [f"{id}: {why}" for entry in alone for id, why in skipped(store, entry).items()]
        raise IncompleteJob(
            f"not one of {bad} images could be used, no version is published; {'; '.join(reasons[:1])}; mend "
            "the cause and run again, into another `out` unless the images themselves change"
        )


def _missing(outcome: Outcome, total: int, store: Store) -> str:
    first, reason = next(iter(outcome.failed.items()))
    return (
        f"{len(outcome.failed)} of {total} parts failed, no version is published; part {first}: {reason}; "
        f"{len(outcome.done)} parts are kept in {store.url}: mend the cause and run the same command, or "
        "pass --allow-missing"
    )
