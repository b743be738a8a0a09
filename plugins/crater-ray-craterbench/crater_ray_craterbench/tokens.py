"""`crater-ray bench tokens`: the backbone once, then every way to choose, join, score and keep its tokens."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from crater_ray.config import ClusterTable, Job
from crater_ray.encode.device import named
from crater_ray.errors import UserError
from crater_ray.evaluation.encoded import encoded
from crater_ray.evaluation.metrics import interval, summarise
from crater_ray.evaluation.own import own_places
from crater_ray_craterbench import figures
from crater_ray_craterbench import tokens_report as tables
from crater_ray_craterbench.ledger import Ledger, check_folder
from crater_ray_craterbench.measure import Measured, Suite, check_relevant, measure, rate
from crater_ray_craterbench.results import Bench
from crater_ray_craterbench.sweep import FEW, Configuration, choices, sweep, together, unique, work

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class TokensReport:
    """Where the results are, and what was measured just now."""

    files: tuple[Path, ...]
    configurations: int
    measured: int  # in this run
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return {
            "files": [str(path) for path in self.files],
            "configurations": self.configurations,
            "measured": self.measured,
            "seconds": round(self.seconds, 3),
        }

    def as_text(self) -> str:
        lines = [
            f"{self.configurations} configurations, {self.measured} of them measured in {self.seconds:.0f} s"
        ]
        return "\n".join([*lines, *map(str, self.files)])


def run(
    job: Job,
    *,
    queries: int | None = None,
    few: int = FEW,
    grid: bool = False,
    only: Sequence[str] = (),
    device: str = "cpu",
    quiet: bool = False,
    say: Callable[[str], object] = lambda text: None,
) -> TokensReport:
    """Measure what is not yet measured and write the tables and figures, into <out>/bench.

    `queries` are evenly spaced among the job's; dear configurations take `few` of them; tokens are joined on
    `device`. `say` is told what to expect. Raises ConfigError without [queries], when no query has a relevant
    image or for a device that is not here, StorageFull, and as the index job.
    """
    job.queries_ref()  # said before any work
    named(device)
    check_folder(job.out)
    gallery, asked = encoded(job, quiet=quiet)
    itself = own_places(gallery, asked)
    suite = Suite(gallery, asked, job.shortlist_ref(), job.index.sample, job.index.seed, device, itself)
    places = _spaced(np.arange(len(asked.items)), queries)
    check_relevant(job, suite, places)
    if itself:
        say(
            f"{sum(map(len, itself))} images are queries and in the gallery: "
            "each is left out of its own ranking"
        )
    left_out: dict[str, str] = {}
    have = choices(gallery.shape, len(gallery.items), left_out)
    axes = sweep(have, grid=grid, only=only)
    ledger = Ledger(job.out)
    bench = Bench(job, suite, have, axes, places, _spaced(places, few), ledger, left_out)
    todo = [one for one in unique(axes) if bench.key(one) not in ledger.results]
    begin = time.monotonic()
    with _threads(job.cluster):
        if todo:
            say(_expected(bench, todo))
        for members in track(together(todo), "bench tokens", console=Console(stderr=True), disable=quiet):
            try:
                _measure(bench, members)
            except UserError as error:
                left_out[members[0].title] = error.message
    files = (*tables.write(bench), *figures.draw(bench))
    measured = sum(bench.key(one) in ledger.results for one in todo)
    return TokensReport(files, len(bench.finished()), measured, time.monotonic() - begin)


def _measure(bench: Bench, members: Sequence[Configuration]) -> None:
    """Measures and files the members, which share a scoring and its queries."""
    places = bench.places_of(members[0])
    begin = time.monotonic()
    results = measure(bench.suite, members, places)
    seconds = (time.monotonic() - begin) / len(members)
    clusters = [item.group for item in bench.suite.asked(places)]
    for one, found in zip(members, results, strict=True):
        told = _told(one, found, clusters) | {"seconds": round(seconds, 2)}
        bench.ledger.add(bench.key(one), told, found.scores["image_ap"])


def _told(one: Configuration, found: Measured, clusters: Sequence[str]) -> dict[str, Any]:
    summary = summarise(found.scores)
    bounds = interval(found.scores["image_ap"], clusters=clusters)
    return {
        **one.words(),
        "k": found.k,
        "query_k": found.query_k,
        "dim": found.dim,
        "bytes": found.bytes_per_image,
        "queries": summary.queries,
        "excluded": summary.excluded,
        **summary.means,
        "low": bounds.low,
        "high": bounds.high,
    }


def _expected(bench: Bench, todo: Sequence[Configuration]) -> str:
    have = bench.have
    speed = rate(have.k, bench.suite.gallery.shape.dim)
    products = sum(work(members[0], have) * len(bench.places_of(members[0])) for members in together(todo))
    minutes = products * len(bench.suite.gallery.items) / speed / 60
    return (
        f"{len(todo)} configurations to measure, {len(bench.finished())} there; "
        f"about {max(1.0, minutes):.0f} minutes of scoring as fast as this machine is now"
    )


def _spaced(places: Array, count: int | None) -> Array:
    """`count` of the places, evenly spaced; all where there are no more."""
    if count is None or count >= len(places):
        return places
    chosen: Array = places[np.unique(np.linspace(0, len(places) - 1, count).round().astype(np.int64))]
    return chosen


class _threads:
    """Torch's threads inside: all that the job's encoders may use together."""

    def __init__(self, table: ClusterTable) -> None:
        self.count = max(1, (table.threads or 0) * table.encoders or os.cpu_count() or 1)

    def __enter__(self) -> None:
        import torch

        self.before = torch.get_num_threads()
        torch.set_num_threads(self.count)

    def __exit__(self, *error: object) -> None:
        import torch

        torch.set_num_threads(self.before)
