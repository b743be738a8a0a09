"""`make soak`: ten minutes at 70 % of saturation: no error, and memory that stays.

python benchmarks/soak.py indexes/moon20k [--minutes 10] [--share 0.7] [--mode shortlist] [--out soak.json]

Memory is what the service's processes have to themselves, not the mapped index, after the first minute and
at the end. Exit 1 when a request failed or memory grew by more than 5 %.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
from load import Body, load, service

GROWTH = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("index", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--share", type=float, default=0.7, help="of what the service can do at most")
    parser.add_argument("--mode", choices=["shortlist", "exact"], default="shortlist")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with service(given.index) as running:
        bodies: list[Body] = [{"id": id, "mode": given.mode} for id in asyncio.run(_ids(running.url))]
        asyncio.run(load(running.url, bodies, 5, at_once=4))
        most = asyncio.run(load(running.url, bodies, 20, at_once=4)).rate(1.0, 20.0)
        rate = given.share * most
        memory: list[tuple[float, int]] = []

        async def watch(start: float) -> None:
            for minute in range(1, int(given.minutes) + 1):
                await asyncio.sleep(max(0.0, start + 60 * minute - asyncio.get_running_loop().time()))
                memory.append((minute, sum((await asyncio.to_thread(running.memory)).values())))
                print(f"{minute} min: {memory[-1][1] / 2**20:.0f} MiB", flush=True)

        tally = asyncio.run(load(running.url, bodies, 60 * given.minutes, rate=rate, meanwhile=watch))
    first, last = memory[0][1], memory[-1][1]
    told: dict[str, Any] = {
        "saturation": round(most, 1),
        "rate": round(rate, 1),
        **tally.as_dict(),
        "memory_MiB": [round(size / 2**20) for _, size in memory],
        "growth": round(last / first - 1, 4),
    }
    print(json.dumps(told))
    if given.out:
        given.out.write_text(json.dumps(told, indent=1))
    if tally.failed or last > (1 + GROWTH) * first:
        sys.exit(f"{len(tally.failed)} failed, memory grew by {last / first - 1:.1%}")


async def _ids(url: str) -> list[str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}/v1/items", params={"limit": 500, "columns": "id"}) as reply,
    ):
        return [row[0] for row in (await reply.json())["rows"]]


if __name__ == "__main__":
    main()
