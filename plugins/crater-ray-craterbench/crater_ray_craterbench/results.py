"""What a bench found, as its tables and figures read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from crater_ray.config import Job
from crater_ray.evaluation.metrics import Interval, difference_interval
from crater_ray_craterbench.ledger import Ledger
from crater_ray_craterbench.measure import Suite
from crater_ray_craterbench.sweep import Choices, Configuration

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Bench:
    """One run's questions and the ledger of answers."""

    job: Job
    suite: Suite
    have: Choices
    axes: Mapping[str, Sequence[Configuration]]
    places: Array  # of the queries asked, in the suite's
    few: Array  # those that dear configurations take
    ledger: Ledger
    left_out: dict[str, str]  # what could not be measured, and why

    def planned(self, one: Configuration) -> Configuration:
        """As the plan has it, which says how many queries it takes."""
        every = (member for members in self.axes.values() for member in members if member == one)
        return next(every, one)

    def places_of(self, one: Configuration) -> Array:
        return self.few if one.few else self.places

    def key(self, one: Configuration) -> str:
        """Of all that decides its result: tokens, queries, itself, and the shortlist where there is one."""
        suite = self.suite
        stage = [asdict(suite.shortlist)] if one.candidates else []
        ids = [item.id for item in suite.asked(self.places_of(one))]
        own = [[rows.tolist() for rows in suite.own]] if suite.own else []  # that are left out
        return one.key(suite.gallery.keys, suite.queries.keys, ids, suite.sample, suite.seed, stage, *own)

    def find(self, one: Configuration) -> dict[str, Any] | None:
        return self.ledger.results.get(self.key(one))

    def finished(self) -> list[Configuration]:
        """Every configuration with a result, once."""
        every = dict.fromkeys(one for members in self.axes.values() for one in members)
        return [one for one in every if self.find(one) is not None]

    def difference(self, one: Configuration, other: Configuration) -> Interval | None:
        """mAP of one minus the other's over the queries that both scored; None without both."""
        if self.find(one) is None or self.find(other) is None:
            return None
        shared = np.intersect1d(self.places_of(one), self.places_of(other))
        first, second = (
            self.ledger.aps(self.key(side))[np.isin(self.places_of(side), shared)] for side in (one, other)
        )
        return difference_interval(first, second, clusters=[item.group for item in self.suite.asked(shared)])
