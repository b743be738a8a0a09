"""`make soak`: ten minutes at 70 % of saturation: no error, and memory that stays.

python benchmarks/soak.py indexes/moon20k [--minutes 10] [--share 0.7] [--mode shortlist] [--json]

Memory is what the service's processes have to themselves, not the mapped index, after the first minute and
at the end. Exit 1 when a request failed or memory grew by more than 5 %.
"""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version
from pathlib import Path

import aiohttp
from load import Body, load, service
from table import Report, arguments, show

GROWTH = 0.05


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--share", type=float, default=0.7, help="of what the service can do at most")
    parser.add_argument("--mode", choices=["shortlist", "exact"], default="shortlist")
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
                print(f"{minute} min: {memory[-1][1] / 2**20:.0f} MiB", file=sys.stderr, flush=True)

        tally = asyncio.run(load(running.url, bodies, 60 * given.minutes, rate=rate, meanwhile=watch))
    first, last = memory[0][1], memory[-1][1]
    growth = last / first - 1
    columns = ("", "minute 1", f"minute {memory[-1][0]}")
    rows = [("memory of its own, MiB", f"{first / 2**20:,.0f}", f"{last / 2**20:,.0f}")]
    keys = {"failed": float(len(tally.failed)), "growth": growth}
    notes = (
        f"{tally.total:,} requests at {rate:.1f}/s, {given.share:.0%} of {most:.1f}/s; p50 "
        f"{tally.percentile(50)} ms, p99 {tally.percentile(99)} ms",
        *(f"Failed with: {reason}" for reason in tally.as_dict()["reasons"]),
        f"Every minute, MiB: {', '.join(f'{size / 2**20:.0f}' for _, size in memory)}",
    )
    wanted = {"failed": "0", "growth": f"<= {GROWTH}"}
    show(Report("A service under load", columns, rows, keys, wanted, notes), given, ray=version("ray"))
    if tally.failed or last > (1 + GROWTH) * first:
        sys.exit(f"{len(tally.failed)} failed, memory grew by {growth:.1%}")


async def _ids(url: str) -> list[str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}/v1/items", params={"limit": 500, "columns": "id"}) as reply,
    ):
        return [row[0] for row in (await reply.json())["rows"]]


if __name__ == "__main__":
    main()
