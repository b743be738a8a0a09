"""What can be counted from outside: Prometheus metrics by ray.util.metrics, or none at all."""

from __future__ import annotations

from typing import Any

SECONDS = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0]  # histogram bounds


class Metrics:
    """Where an ingress notes what it does: here, nowhere."""

    def request(self, route: str, status: int, seconds: float) -> None: ...

    def stage(self, stage: str, seconds: float) -> None: ...

    def in_flight(self, count: int) -> None: ...

    def shards(self, answered: int, total: int) -> None: ...

    def version(self, number: int, skipped: int) -> None: ...


class RayMetrics(Metrics):
    """Named crater_ray_…, exported where Ray exports its own."""

    def __init__(self) -> None:
        from ray.util.metrics import Counter, Gauge, Histogram

        def histogram(name: str, what: str, *tags: str) -> Any:
            return Histogram(f"crater_ray_{name}", what, boundaries=SECONDS, tag_keys=tags)

        def gauge(name: str, what: str) -> Any:
            return Gauge(f"crater_ray_{name}", what)

        self._requests = Counter("crater_ray_requests", "Requests answered", tag_keys=("route", "status"))
        self._seconds = histogram("request_seconds", "From the request's head to the reply's end", "route")
        self._stages = histogram("stage_seconds", "Of one stage of a search", "stage")
        self._in_flight = gauge("requests_in_flight", "Requests an ingress works on")
        self._partial = Counter("crater_ray_partial_replies", "Replies that lack a shard")
        self._answered = gauge("shards_answered", "Shards in the last reply")
        self._total = gauge("shards", "Shards there are")
        self._version = gauge("index_version", "The current version")
        self._skipped = gauge("skipped_items", "Items of that version that could not be indexed")

    def request(self, route: str, status: int, seconds: float) -> None:
        self._requests.inc(1, {"route": route, "status": str(status)})
        self._seconds.observe(seconds, {"route": route})

    def stage(self, stage: str, seconds: float) -> None:
        self._stages.observe(max(seconds, 1e-9), {"stage": stage})

    def in_flight(self, count: int) -> None:
        self._in_flight.set(count)

    def shards(self, answered: int, total: int) -> None:
        self._answered.set(answered)
        self._total.set(total)
        if answered < total:
            self._partial.inc(1)

    def version(self, number: int, skipped: int) -> None:
        self._version.set(number)
        self._skipped.set(skipped)
