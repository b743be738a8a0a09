"""`crater-ray bench tokens`: the backbone once, then every way to choose, join, score and keep its tokens."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from crater_ray.config import ClusterTable, Job
from crater_ray.encode.device import named
from crater_ray.errors import UserError
from crater_ray_craterbench import figures
from crater_ray_craterbench import tokens_report as tables
from crater_ray_craterbench.ledger import Ledger, check_folder
from crater_ray_craterbench.measure import measure, rate, spaced, suite_of
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
    suite, places = suite_of(job, queries, device, quiet)
    if suite.own:
        say(
            f"{sum(map(len, suite.own))} images are queries and in the gallery: "
            "each is left out of its own ranking"
        )
    left_out: dict[str, str] = {}
    have = choices(suite.gallery.shape, len(suite.gallery.items), left_out)
    axes = sweep(have, grid=grid, only=only)
    ledger = Ledger(job.out)
    bench = Bench(job, suite, have, axes, places, spaced(places, few), ledger, left_out)
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
        row = {**one.words(), **found.row(clusters), "seconds": round(seconds, 2)}
        bench.ledger.add(bench.key(one), row, found.scores["image_ap"])


def _expected(bench: Bench, todo: Sequence[Configuration]) -> str:
    have = bench.have
    speed = rate(have.k, bench.suite.gallery.shape.dim)
    products = sum(work(members[0], have) * len(bench.places_of(members[0])) for members in together(todo))
    minutes = products * len(bench.suite.gallery.items) / speed / 60
    return (
        f"{len(todo)} configurations to measure, {len(bench.finished())} there; "
        f"about {max(1.0, minutes):.0f} minutes of scoring as fast as this machine is now"
    )


@contextmanager
def _threads(table: ClusterTable) -> Iterator[None]:
    """Torch's threads inside: all that the job's encoders may use together."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, (table.threads or 0) * table.encoders or os.cpu_count() or 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)
