"""`make chaos`: replicas and the proxy killed, and versions changed, under load; every reply is checked.

python benchmarks/chaos.py indexes/moon20k [--seconds 60] [--rate 10] [--kills 3] [--only encoder] [--json]

Items are asked for `rate` times a second. While encoders are killed, images are sent at half the rate that
saturates the service: that is measured first.

Every reply is compared with what its own version gives in process: one that mixed two versions, or lost a
hit without saying so, is wrong. Requests are counted by the time they end: those in flight at a kill count.
Exit 1 when a promise is broken.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version as metadata_version
from pathlib import Path
from typing import Any

import aiohttp
from load import IMAGE, IMAGE_CANDIDATES, Body, Service, Tally, kill, load, png, same_hits, service
from table import Report, arguments, show

from crater_ray.index.store import store_at

TOP, QUERIES = 10, 40
ALLOWED = 0.001  # of the requests may fail when a replica is killed
SATURATING = 8.0  # seconds, to see how many images a second it answers
BACK_WITHIN = 5.0  # seconds, when the proxy is killed


def expected(index: Path) -> tuple[dict[tuple[int, str], list[tuple[str, float]]], bytes]:
    """The hits of some items and of one image in the two newest versions, in process; and the image."""
    from crater_ray import open_index
    from crater_ray.index.versions import numbers

    found: dict[tuple[int, str], list[tuple[str, float]]] = {}
    wanted: list[str] = []
    for version in numbers(store_at(index))[-2:]:
        opened = open_index(index, version)
        wanted = wanted or opened.ids[:: max(1, len(opened) // QUERIES)][:QUERIES]
        image = png(opened.image(wanted[0]))
        for id in wanted:
            found[version, id] = [(hit.id, hit.score) for hit in opened.search(id=id, top=TOP)]
        found[version, IMAGE] = [
            (hit.id, hit.score) for hit in opened.search(image, top=TOP, candidates=IMAGE_CANDIDATES)
        ]
    return found, image


def killing(running: Service, title: str, kills: int, every: float) -> Callable[[float], Awaitable[None]]:
    """kill -9 of the first process of that title, `kills` times, each once the one before is replaced."""

    def there() -> list[int]:
        return sorted(pid for pid, name in running.processes(title).items() if "initialize" not in name)

    async def work(start: float) -> None:
        count = len(there())
        for number in range(kills):
            await asyncio.sleep(max(1.0, start + (number + 0.5) * every - time.monotonic()))
            while len(there()) < count:
                await asyncio.sleep(0.5)
            kill(there()[0])

    return work


def changing(running: Service, versions: list[int], every: float) -> Callable[[float], Awaitable[None]]:
    """PUT /v1/index/version, one after another, each once the one before is done."""

    async def work(start: float) -> None:
        async with aiohttp.ClientSession() as session:
            for version in versions:
                status = 409  # while the change before is not over
                while status == 409:
                    await asyncio.sleep(0.5)
                    put = session.put(f"{running.url}/v1/index/version", json={"version": version})
                    async with put as reply:
                        status = reply.status
                if status != 202:
                    raise SystemExit(f"version {version} was refused: {status}")
                while True:
                    await asyncio.sleep(0.5)
                    async with session.get(f"{running.url}/v1/index") as reply:
                        told = await reply.json()
                    if told.get("version") == version and told.get("held") == [version]:
                        break

    return work


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0, help="of load around each kind of trouble")
    parser.add_argument("--rate", type=float, default=10.0, help="requests a second")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--only", help="the one kind of trouble whose name has this in it")
    given = parser.parse_args()
    hits, image = expected(given.index)
    versions = sorted({version for version, _ in hits})
    ids = [id for version, id in hits if version == versions[0] and id != IMAGE]
    bodies: list[Body] = [{"id": id, "top": TOP} for id in ids]
    told: dict[str, dict[str, Any]] = {}
    broken: list[str] = []
    notes: list[str] = []

    def wanted(name: str) -> bool:
        return given.only is None or given.only in name

    def run(
        name: str,
        meanwhile: Callable[[float], Awaitable[None]],
        seconds: float,
        asked: list[Body] = bodies,
        rate: float = given.rate,
    ) -> Tally:
        tally = asyncio.run(
            load(running.url, asked, seconds, rate=rate, check=same_hits(hits), meanwhile=meanwhile)
        )
        told[name] = tally.as_dict()
        print(name, json.dumps(told[name]), file=sys.stderr, flush=True)
        if tally.wrong:
            broken.append(f"{name}: {len(tally.wrong)} wrong replies")
        return tally

    with service(given.index) as running:
        asyncio.run(load(running.url, bodies, 3, rate=given.rate))
        every = given.seconds / given.kills
        kinds: list[tuple[str, list[Body]]] = [("searcher", bodies), ("encoder", [image])]
        for kind, asked in kinds:
            title = f"ServeReplica:crater-ray:{kind}"
            name = f"kill -9 {kind}, {given.kills} times"
            if not wanted(name):
                continue
            rate = given.rate
            if kind == "encoder":
                most = asyncio.run(load(running.url, asked, SATURATING, at_once=4)).total / SATURATING
                rate = most / 2
                notes.append(f"images: {rate:.1f} a second, half of the {most:.1f} that saturate it")
            tally = run(name, killing(running, title, given.kills, every), given.seconds, asked, rate)
            if len(tally.failed) > ALLOWED * tally.total:
                broken.append(f"{kind}: {len(tally.failed)} of {tally.total} failed")
        for title in ("haproxy -", "HAProxyManager", "ProxyActor", "ServeReplica:crater-ray:ingress"):
            if not running.processes(title) or not wanted(f"kill -9 {title}"):
                continue
            tally = run(f"kill -9 {title}", killing(running, title, 1, given.seconds / 2), given.seconds)
            if tally.failed and tally.longest_gap() > BACK_WITHIN:
                broken.append(f"{title}: {tally.longest_gap():.1f} s without an answer")
        if len(versions) == 2 and wanted("two changes of version"):
            back = [versions[0], versions[1]]
            tally = run("two changes of version", changing(running, back, 1.0), max(given.seconds, 120.0))
            if tally.failed:
                broken.append(f"changes of version: {len(tally.failed)} failed")
            if len(tally.versions) < 2:
                broken.append("no change of version was seen")
    show(report(told, broken, notes), given, ray=metadata_version("ray"))
    if broken:
        sys.exit("; ".join(broken))


def report(told: dict[str, dict[str, Any]], broken: list[str], notes: list[str]) -> Report:
    """A row for each kind of trouble."""
    columns = ("trouble", "requests", "failed", "wrong", "partial, said so", "longest gap", "p50", "p99")
    rows = []
    for name, found in told.items():
        counts = (f"{found[key]:,}" for key in ("requests", "failed", "wrong", "partial"))
        times = (f"{found[key]:.0f} ms" for key in ("p50_ms", "p99_ms"))
        rows.append((name, *counts, f"{found['longest_gap_s']:.1f} s", *times))
    keys = {"wrong": float(sum(found["wrong"] for found in told.values())), "broken_promises": len(broken)}
    reasons = sorted({reason for found in told.values() for reason in found["reasons"]})
    notes = [*notes, *(f"Broken: {one}" for one in broken), *(f"Failed with: {one}" for one in reasons)]
    wanted = {"wrong": "0", "broken_promises": "0"}
    return Report("A service in trouble", columns, rows, keys, wanted, notes)


if __name__ == "__main__":
    main()
