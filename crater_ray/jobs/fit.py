"""Fits run once, before the first part, on the items whose hashed id is lowest."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

import ray
import xxhash

from crater_ray.config import ClusterTable
from crater_ray.errors import ReaderError
from crater_ray.jobs.answers import answer
from crater_ray.jobs.encoder_actor import EncoderActor
from crater_ray.jobs.part import Work
from crater_ray.jobs.progress import Counter
from crater_ray.plugins import Reader, registry
from crater_ray.types import Item


def fit(
    work: Work, roles: Iterable[str], table: ClusterTable, sample: int, seed: int, *, quiet: bool = False
) -> dict[str, str]:
    """role -> sha of its fitted file, for the roles that learn.

    Raises ReaderError without items.
    """
    reader: Reader = registry().build(work.reader)
    items = sampled((item for part in reader.parts() for item in reader.read(part)), sample)
    if not items:
        raise ReaderError(f"reader {work.reader.name!r} lists no item, so there is nothing to learn from")
    actor = EncoderActor.options(
        num_cpus=table.cpus_per_encoder, num_gpus=table.gpus_per_encoder, max_concurrency=2
    ).remote()
    try:
        shas: dict[str, str] = {}
        roles = tuple(roles)
        with Counter(f"fit of {', '.join(roles)} on {len(items)} images", len(roles), quiet) as counter:
            for role in roles:
                learning = actor.fit.remote(work, role, items, seed)
                while not ray.wait([learning], timeout=1.0)[0]:
                    counter.update(len(shas), answer(actor.encoded.remote()))
                shas[role] = answer(learning)
        return shas
    finally:
        ray.kill(actor)


def sampled(items: Iterator[Item], count: int) -> list[Item]:
    """The `count` items of lowest hash(id), sorted by id."""
    lowest = heapq.nsmallest(
        count, items, key=lambda item: (xxhash.xxh64_intdigest(item.id.encode()), item.id)
    )
    return sorted(lowest, key=lambda item: item.id)
