"""The whole application in one process, without Ray: to work on the page, and for tests that need a port.

python -m crater_ray.serve.local INDEX [PORT]    (or a job file, with its [serve])
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from fastapi import HTTPException

from crater_ray.serve.application import open_application, open_service
from crater_ray.serve.encoder import QueryEncoder
from crater_ray.serve.gate import Gate
from crater_ray.serve.searcher import Searcher
from crater_ray.serve.settings import Settings
from crater_ray.serve.threads import Turns


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

    async def change(number: int | None) -> None:
        raise HTTPException(409, "this service is one process: start it again for another version")

    service = open_service(wanted, [Here(searcher) for searcher in searchers], Here(encoder))
    return open_application(wanted, service, change)


def main() -> None:
    import uvicorn

    from crater_ray.serve.command import plan

    place, port = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 8000
    wanted = plan(place, host="127.0.0.1", token_file=None, no_auth=True, version=None, logs=None, changes={})
    uvicorn.run(local(wanted), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
