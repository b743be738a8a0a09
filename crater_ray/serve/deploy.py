"""The Serve application: `crater_ray.serve.deploy:build`, what every way to deploy names.

ingress     FastAPI behind the gate; no torch. Its user_config pins the current version
encoder     query images, several at once
searcher-i  shard i; its user_config names the versions it holds
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from ray import serve
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

import crater_ray
from crater_ray.serve.calls import Answer, Busy, Late, Methods, answered, end, left, opened
from crater_ray.serve.settings import Settings, settings
from crater_ray.serve.threads import CoreTurns, lower_priority, off_loop

HANGS = 4.0  # times as long as a request may take: a call that runs for longer never ends
TURNS = ("search", "describe", "stored", "place", "page", "summary")  # of a searcher, one at a time


@dataclass(slots=True)
class _Image:
    """A query image that waits for its batch."""

    image: bytes
    places: bool
    until: float  # of time.monotonic(): its caller waits no longer
    gone: bool = False  # its caller does not wait any more


class Encoders:
    """An encoder replica: one thread encodes, what arrives meanwhile becomes the next batch."""

    def __init__(self, plain: dict[str, Any]) -> None:
        table = settings(plain).serve
        self._hangs = HANGS * table.timeout_s
        self._turns = CoreTurns(_threads(table.threads))
        self._encoder = self._turns.behind(self._built, settings(plain))
        self._turns.first(self._encoder.warm)
        self._batch.set_max_batch_size(table.batch)

    @staticmethod
    def _built(wanted: Settings) -> Any:
        from crater_ray.serve.encoder import QueryEncoder

        table = wanted.serve
        return QueryEncoder(
            wanted.index,
            max_pixels=table.max_pixels,
            threads=1,
            device="cuda" if table.gpus_per_encoder else "cpu",
        )

    def check_health(self) -> None:
        """Asked by Serve now and then, which replaces a replica that raises or does not come back."""
        self._turns.check(self._hangs)
        self._encoder.check_health()

    async def answer(self, method: str, seconds: float, *arguments: Any) -> Answer:
        """The one way in, with the seconds that the caller waits."""
        methods: Methods = {"encode": self.encode, "places": self.places, "picture": self.picture}
        return await answered(methods, method, seconds, arguments)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.0)
    async def _batch(self, images: list[_Image]) -> list[Any]:
        answers: list[Any] = await self._turns.run(self._encoded, images)
        return answers

    def _encoded(self, images: list[_Image]) -> list[Any]:
        """In its turn: what nobody waits for any more is skipped."""
        now = time.monotonic()
        wanted = [one for one in images if now < one.until and not one.gone]
        answers = (
            self._encoder.encode([one.image for one in wanted], [one.places for one in wanted])
            if wanted
            else []
        )
        found = dict(zip(map(id, wanted), answers, strict=True))
        return [found.get(id(one)) for one in images]

    async def encode(self, image: bytes, places: bool) -> Any:
        waiting = _Image(image, places, end())
        try:
            answer = await self._batch(waiting)
        finally:
            waiting.gone = True
        if answer is None:
            raise Late("the time was over before the image was encoded")
        return answer

    async def places(self, version: int, reader: int, uri: str) -> Any:
        return await self._turns.run(self._encoder.places, version, reader, uri)

    async def picture(self, version: int, reader: int, uri: str, size: int | None) -> bytes:
        png: bytes = await self._turns.run(self._encoder.picture, version, reader, uri, size)
        return png


class Searchers:
    """A searcher replica. Not ready, and without requests, until its files are checked and opened."""

    def __init__(self, plain: dict[str, Any], shard: int) -> None:
        wanted = settings(plain)
        self._hangs = HANGS * wanted.serve.timeout_s
        self._turns = CoreTurns(_threads(wanted.serve.threads))
        self._opening = asyncio.Lock()
        self._searcher = self._turns.behind(self._built, wanted, shard)
        self._serves = False

    @staticmethod
    def _built(wanted: Settings, shard: int) -> Any:
        from crater_ray.serve.searcher import Searcher

        return Searcher(wanted.index, shard, wanted.serve.shards, _threads(wanted.serve.threads))

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """Holds just these versions; searches go on while a new one is checked."""
        loop = asyncio.get_running_loop()
        async with self._opening:
            # low only at first: a thread that seldom runs but has the GIL would hold answers up
            priority = None if self._serves else lower_priority
            with ThreadPoolExecutor(1, initializer=priority) as opening:  # it ends, and its team with it
                await loop.run_in_executor(opening, self._searcher.hold, config["versions"])
            self._serves = True

    def check_health(self) -> None:
        """Asked by Serve now and then, which replaces a replica that raises."""
        self._turns.check(self._hangs)

    async def answer(self, method: str, seconds: float, *arguments: Any) -> Answer:
        """The one way in, with the seconds that the caller waits."""
        if method == "holds":  # known without waiting for a turn
            return await answered({"holds": self.holds}, method, seconds, arguments)
        turns: Methods = {name: partial(self._turns.run, getattr(self._searcher, name)) for name in TURNS}
        return await answered(turns, method, seconds, arguments)

    async def holds(self, version: int) -> bool:
        return bool(self._searcher.holds(version))


class Ingress:
    """The HTTP side. Holds no index: a searcher may be anywhere, and an ingress starts at once."""

    def __init__(
        self, plain: dict[str, Any], encoder: DeploymentHandle, searchers: Sequence[DeploymentHandle]
    ) -> None:
        from crater_ray.serve.application import open_service
        from crater_ray.serve.metrics import RayMetrics

        self._settings = settings(plain)
        groups = [_Group(handle) for handle in searchers]
        self._service = open_service(self._settings, groups, _Group(encoder), RayMetrics())

    async def __serve_build_asgi_app__(self) -> Any:
        from crater_ray.serve.application import open_application

        return await off_loop(open_application, self._settings, self._service, self._change, named=True)

    async def reconfigure(self, config: dict[str, Any]) -> None:
        from crater_ray.serve.service import Pin

        await off_loop(self._service.listed, config["version"])
        self._service.put(Pin(config["version"], tuple(config["held"])))

    async def _change(self, version: int | None) -> None:
        from crater_ray.serve.reload import begin

        await off_loop(begin, self._settings, self._service.pin, version)


class _Group:
    """A deployment as a Target: what it raises is what its replica's work raised, or ConnectionError."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def __call__(self, method: str, *arguments: Any) -> Any:
        try:
            answer = await self._handle.answer.remote(method, left(), *arguments)
        except BackPressureError as error:
            raise Busy(str(error)) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise ConnectionError("the replica is stopping") from None  # it cancelled the call, not we
        except Exception as error:  # of the way there: the work's own errors come as answers
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        return opened(answer)


def build(args: dict[str, Any]) -> serve.Application:
    """The application of `Settings`, under its first version. Raises ConfigError, IndexMismatch."""
    wanted = settings(args)
    version = wanted.first_version()
    return bound(wanted, version, (version,))


def bound(
    wanted: Settings, version: int, held: Sequence[int], code: str | None = None, *, lone: bool = False
) -> serve.Application:
    """The application with `version` as the current one and searchers that hold all of `held`.

    Deployed again with other versions and under the `code` that runs, Serve changes the replicas where they
    are; under another it would start every one of them again. lone: one replica of each, sooner there.
    """
    code = code or hashlib.sha256(f"{crater_ray.__version__}{wanted.model_dump_json()}".encode()).hexdigest()
    plain, table = wanted.model_dump(mode="json"), wanted.serve
    actor = {"num_cpus": table.cpus_per_replica}
    common: dict[str, Any] = {
        # all that ingresses have in hand: where every replica is full, a handle waits for up to half a
        # second before it looks again, and cores lie idle under a growing queue
        "max_ongoing_requests": table.max_concurrency * table.ingresses,
        "max_queued_requests": table.max_concurrency,
        "graceful_shutdown_timeout_s": 5.0,
        "graceful_shutdown_wait_loop_s": 0.1,
        "health_check_period_s": 2.0,
        "health_check_timeout_s": 10.0,
    }
    encoder = _fixed(
        serve.deployment(Encoders).options(
            name="encoder",
            num_replicas=1 if lone else table.encoders,
            ray_actor_options={**actor, "num_gpus": table.gpus_per_encoder},
            **common,
        ),
        code,
    )
    searchers = [
        _fixed(
            serve.deployment(Searchers).options(
                name=f"searcher-{shard}",
                num_replicas=1 if lone else table.replicas,
                ray_actor_options=actor,
                user_config={"versions": list(held)},
                **common,
            ),
            code,
        ).bind(plain, shard)
        for shard in range(table.shards)
    ]
    ingress = _fixed(
        serve.deployment(serve.ingress()(Ingress)).options(
            name="ingress",
            num_replicas=1 if lone else table.ingresses,
            ray_actor_options=actor,
            user_config={"version": version, "held": list(held)},
            **{**common, "max_ongoing_requests": 16 * table.max_concurrency, "max_queued_requests": -1},
        ),
        code,
    )
    return ingress.bind(plain, encoder.bind(plain), searchers)


def _fixed(deployment: Any, code: str) -> Any:
    """The deployment, under a name of its code: Serve makes one up for every `serve.run` that has none."""
    return deployment.options(_internal=True, version=code)


def running(app: str) -> tuple[str, int, tuple[int, ...]]:
    """The name under which Serve runs the code of the application, the current version, those held."""
    from ray.serve.context import _get_global_client

    found, _ = _get_global_client().get_deployment_info("ingress", app)
    config = found.deployment_config.user_config
    return str(found.version), int(config["version"]), tuple(config["held"])


def prefix(app: str) -> str:
    """The path below which Serve answers for the application: / or /so/and/so."""
    from ray.serve.context import _get_global_client

    _, route = _get_global_client().get_deployment_info("ingress", app)
    return route or "/"


def _threads(wanted: int | None) -> int:
    return wanted or os.cpu_count() or 1
