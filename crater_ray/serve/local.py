"""The whole application in one process, without Ray: to work on the page, and for tests that need a port.

python -m crater_ray.serve.local INDEX [PORT]    (or a job file, with its [serve])
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from crater_ray.index.config import read_config
from crater_ray.index.store import store_at
from crater_ray.serve.application import application
from crater_ray.serve.basemap import read_maps
from crater_ray.serve.bearer_tokens import BearerTokens, read_tokens
from crater_ray.serve.encoder import QueryEncoder
from crater_ray.serve.gate import Gate
from crater_ray.serve.problems import Refused
from crater_ray.serve.replica import Turns
from crater_ray.serve.replicas import Replicas
from crater_ray.serve.searcher import Searcher
from crater_ray.serve.service import Pin, Service
from crater_ray.serve.settings import LOOPBACK, Settings


class Here:
    """A Target that is an object of this process, which one thread uses, one call after another."""

    def __init__(self, thing: Any) -> None:
        self._thing, self._turns = thing, Turns()

    async def __call__(self, method: str, *arguments: Any) -> Any:
        if method == "encode":
            image, places = arguments
            return (await self._turns.run(self._thing.encode, [image], [places]))[0]
        return await self._turns.run(getattr(self._thing, method), *arguments)


def local(wanted: Settings) -> Gate:
    """An ASGI application that answers as the deployed one does. Raises as `crater-ray serve`."""
    table, version = wanted.serve, wanted.first_version()
    searchers = [Searcher(wanted.index, shard, table.shards, table.threads) for shard in range(table.shards)]
    for searcher in searchers:
        searcher.hold([version])
    encoder = QueryEncoder(wanted.index, max_pixels=table.max_pixels, threads=table.threads)
    config = read_config(store_at(wanted.index))
    targets = [Here(searcher) for searcher in searchers]
    pin = Pin(version, (version,))
    replicas = Replicas(targets, Here(encoder), table)
    service = Service(wanted.index, wanted.name, replicas, pin, config)

    async def change(number: int | None) -> None:
        raise Refused(409, "this service is one process: start it again for another version")

    return application(
        service,
        tokens=BearerTokens(None if wanted.token_file is None else read_tokens(wanted.token_file)),
        change=change,
        basemaps=read_maps(table),
        hosts=LOOPBACK if wanted.no_auth else None,
    )


def main() -> None:
    import uvicorn

    from crater_ray.serve.command import plan

    place, port = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 8000
    wanted = plan(place, host="127.0.0.1", token_file=None, no_auth=True, version=None, logs=None, changes={})
    uvicorn.run(local(wanted), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
