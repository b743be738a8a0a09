"""A consumer, given the job's index and its neighbour table."""

from __future__ import annotations

from pathlib import Path

import pyarrow.dataset as ds

from crater_ray.config import Job
from crater_ray.index.store import store_at
from crater_ray.jobs import neighbours
from crater_ray.plugins import Consumer, PluginRef, registry
from crater_ray.retrieve import Index


def run(name: str, job: Job, *, quiet: bool = False) -> Path:
    """What the consumer wrote, below `out`/consumed/<name>/.

    Raises PluginError for an unknown consumer, and what opening the index raises (index the job first).
    """
    root = store_at(job.out).as_folder(
        "consumers write beside the index, into a folder; `crater-ray neighbours` takes one"
    )
    ref = job.consumer_ref(name)
    consumer: Consumer = registry().build(ref)
    index = Index(job.out)
    out = root / "consumed" / name
    out.mkdir(parents=True, exist_ok=True)
    return consumer(index, _table(ref, job, index, quiet), out)


def _table(ref: PluginRef, job: Job, index: Index, quiet: bool) -> ds.Dataset:
    """One for every consumer of this version and these settings; empty for one that does without."""
    if not registry().spec(ref).reads_neighbours:
        return ds.dataset(neighbours.SCHEMA.empty_table())
    request = job.neighbours.request(index.snapshot.version.number)
    table = neighbours.beside(job.out, request)
    if not table.exists():
        neighbours.run(job.out, request, table, job.cluster, quiet=quiet)
    return ds.dataset(table)
