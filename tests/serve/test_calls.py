"""Calls to replicas: the request's own time, once, again for a death alone, dropped when nobody waits."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

from crater_ray.errors import DamagedIndex, QueryError
from crater_ray.serve.calls import (
    Answer,
    Busy,
    Fault,
    Late,
    NoAnswer,
    answered,
    call,
    call_all,
    end,
    gathered,
    left,
    opened,
    within,
)
from crater_ray.serve.local import Here
from crater_ray.serve.searcher import NotHeld
from crater_ray.serve.threads import Turns

Rigs = Callable[..., Any]
LONG = 30.0  # seconds that are never waited for


class Slow:
    """Searches until it is let go; counts executions and the threads inside."""

    def __init__(self) -> None:
        self.go, self.entered = threading.Event(), threading.Event()
        self.lock = threading.Lock()
        self.calls = self.inside = self.most = 0

    def search(self, ask: Any = None) -> str:
        with self.lock:
            self.calls += 1
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.entered.set()
        assert self.go.wait(LONG)
        with self.lock:
            self.inside -= 1
        return "hits"


async def entered(slow: Slow) -> None:
    assert await asyncio.to_thread(slow.entered.wait, LONG)


def asked(target: Any, seconds: float = LONG, retries: int = 2) -> Any:
    return call(target, "search", None, name="searcher", retries=retries, timeout_s=seconds)


def test_a_slow_search_is_executed_once_and_its_caller_waits_as_long_as_it_may() -> None:
    slow = Slow()

    async def main() -> None:
        here = Here(slow)
        with pytest.raises(Late, match="did not answer in time"):
            await asked(here, seconds=0.05)
        assert slow.calls == 1
        slow.go.set()
        assert await asked(here) == "hits"

    asyncio.run(main())
    assert (slow.calls, slow.most) == (2, 1)


def test_one_thread_is_inside_though_callers_give_up_and_what_waits_for_them_is_dropped() -> None:
    slow = Slow()

    async def main() -> None:
        here = Here(slow)
        running = asyncio.ensure_future(asked(here))
        await entered(slow)
        queued = asyncio.ensure_future(asked(here))
        late = asyncio.ensure_future(asked(here, seconds=0.01))
        with pytest.raises(Late):
            await late
        queued.cancel(), running.cancel()
        await asyncio.gather(running, queued, return_exceptions=True)
        following = asyncio.ensure_future(asked(here))
        await asyncio.sleep(0)
        assert slow.most == slow.calls == 1  # the first has not ended, though its caller went
        slow.go.set()
        assert await following == "hits"

    asyncio.run(main())
    assert (slow.calls, slow.most) == (2, 1)


def test_a_call_whose_time_is_over_when_its_turn_comes_is_not_begun() -> None:
    slow, turns, done = Slow(), Turns(), []

    async def main() -> None:
        running = asyncio.ensure_future(turns.run(slow.search))
        await entered(slow)

        async def without_a_caller_who_cancels() -> None:
            with within(0.0):
                await turns.run(done.append, 1)

        waiting = asyncio.ensure_future(without_a_caller_who_cancels())
        await asyncio.sleep(0)
        slow.go.set()
        await running
        with pytest.raises(Late, match="before the work began"):
            await waiting

    asyncio.run(main())
    assert done == []


def test_the_work_knows_what_time_is_left_and_never_more_than_around_it() -> None:
    async def main() -> None:
        turns = Turns()
        assert await turns.run(left) == float("inf")
        with within(LONG):
            assert 0 < await turns.run(left) <= LONG
            with within(2 * LONG):
                assert left() <= LONG
            until = end()
            with within(1.0):
                assert end() < until
            assert end() == until

    asyncio.run(main())


def test_a_thread_that_hangs_is_seen_from_outside() -> None:
    slow, turns = Slow(), Turns()

    async def main() -> None:
        turns.check(0.0)
        running = asyncio.ensure_future(turns.run(slow.search))
        await entered(slow)
        turns.check(LONG)
        with pytest.raises(RuntimeError, match="its caller is long gone"):
            turns.check(0.0)
        slow.go.set()
        await running
        turns.check(0.0)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("raised", "told", "times"),
    [
        (ConnectionError("dead"), NoAnswer, 3),
        (ConnectionResetError("dead"), NoAnswer, 3),
        (NotHeld("not yet"), NoAnswer, 3),
        (Busy("full"), Busy, 1),
        (QueryError("no such column"), QueryError, 1),
        (KeyError("ours"), Fault, 1),
        (TimeoutError("of a library"), Fault, 1),
        (MemoryError(), Fault, 1),
        (DamagedIndex("a file"), Fault, 1),
        (Late("over"), Late, 1),
        (Fault("elsewhere"), Fault, 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_only_where_a_replica_died_or_lacks_the_version_it_is_asked_again(
    raised: Exception, told: type[Exception], times: int
) -> None:
    calls: list[str] = []

    async def target(method: str, *arguments: Any) -> Any:
        calls.append(method)
        raise raised

    with pytest.raises(told) as caught:
        asyncio.run(asked(target))
    assert type(caught.value) is told
    assert len(calls) == times


def test_attempts_share_one_time() -> None:
    given: list[float] = []

    async def target(method: str, *arguments: Any) -> Any:
        given.append(end())
        raise ConnectionError("dead")

    with pytest.raises(NoAnswer):
        asyncio.run(asked(target))
    assert len(set(given)) == 1


def test_a_callers_mistake_ends_the_calls_beside_it() -> None:
    ended: list[str] = []

    async def wrong(method: str, *arguments: Any) -> Any:
        await asyncio.sleep(0)
        raise QueryError("no such column")

    async def waits(method: str, *arguments: Any) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append(method)
            raise

    async def main() -> None:
        with pytest.raises(QueryError):
            await call_all([waits, wrong, waits], "search", name="searcher", retries=0, timeout_s=LONG)
        await asyncio.sleep(0)
        with pytest.raises(QueryError):
            await gathered(target("search") for target in (wrong, waits))
        await asyncio.sleep(0)

    asyncio.run(main())
    assert ended == ["search"] * 3


def test_what_a_replica_says_is_an_answer_that_travels() -> None:
    class Strange(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(one)

    async def work(error: Exception | None) -> str:
        if error is not None:
            raise error
        return f"{left():.0f}"

    async def main() -> None:
        async def asked_of(error: Exception | None) -> Any:
            answer: Answer = await answered({"work": work}, "work", LONG, (error,))
            return opened(pickle.loads(pickle.dumps(answer)))

        assert await asked_of(None) == f"{LONG:.0f}"
        for error in (QueryError("a"), NotHeld("b"), Late("c"), DamagedIndex("d")):
            with pytest.raises(type(error), match=str(error)):
                await asked_of(error)
        with pytest.raises(Fault, match="work failed: Strange: 1"):
            await asked_of(Strange(1, 2))
        with pytest.raises(Fault, match="KeyError"):  # a method that is not there is our fault as well
            opened(await answered({}, "work", LONG, ()))

    asyncio.run(main())


# over HTTP


async def hang(method: str, *arguments: Any) -> Any:
    await asyncio.Event().wait()


def test_a_slow_search_is_a_504_and_one_execution(rig: Rigs) -> None:
    made, slow = rig(timeout_s=0.2, ready_timeout_s=0.01), Slow()
    made.service.replicas.searchers = [Here(slow)]
    reply = made.client.post("/v1/search", json={"id": "i0001"})
    assert reply.status_code == 504
    assert slow.calls == 1
    slow.go.set()


def test_a_search_that_takes_longer_than_an_attempt_did_is_answered(rig: Rigs) -> None:
    made = rig(shards=1, ready_timeout_s=0.001)
    searcher = made.shards[0]

    async def slowly(method: str, *arguments: Any) -> Any:
        await asyncio.sleep(0.05)
        return await searcher(method, *arguments)

    made.service.replicas.searchers = [slowly]
    assert made.client.post("/v1/search", json={"id": "i0001"}).status_code == 200
    assert searcher.calls == ["search"]


def test_a_shard_that_hangs_leaves_time_to_answer_without_it(rig: Rigs) -> None:
    made = rig(shards=3, timeout_s=1.0)
    here = made.shards[0].thing.held[2].index.ids[0]

    async def owner(method: str, *arguments: Any) -> Any:  # knows that the item is not its own
        return None if method == "stored" else await hang(method)

    made.service.replicas.searchers = [made.shards[0], owner, made.shards[2]]
    reply = made.client.post("/v1/search", json={"id": here})
    assert reply.json()["shards"] == {"answered": 2, "total": 3}
    strict = made.client.post("/v1/search", json={"id": here, "strict": True})
    assert strict.status_code == 503


def test_a_fault_of_a_replica_is_a_500_told_once(rig: Rigs) -> None:
    made = rig()
    made.shards[0].failing["search"] = [KeyError("/secret/path")] * 9
    reply = made.client.post("/v1/search", json={"id": "i0001"})
    assert (reply.status_code, made.shards[0].calls.count("search")) == (500, 1)
    assert "secret" not in reply.text


@pytest.mark.parametrize("image", [False, True])
def test_a_caller_who_closes_the_connection_is_not_worked_for(rig: Rigs, image: bool) -> None:
    """The call in hand is cancelled, the place is free, and nothing is sent."""
    made = rig(timeout_s=LONG)
    sent: list[Any] = []
    cancelled: list[str] = []

    async def main() -> None:
        under_way = asyncio.Event()

        async def waits(method: str, *arguments: Any) -> Any:
            under_way.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(method)
                raise

        made.service.replicas.searchers, made.service.replicas.encoders = [waits], waits
        body = (
            b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nb\r\n--x--\r\n'
            if image
            else b'{"id": "i0001"}'
        )
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await under_way.wait()
            assert made.client.app.guard.working == 1
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        kind = b"multipart/form-data; boundary=x" if image else b"application/json"
        headers = [(b"authorization", b"Bearer a token of more than sixteen"), (b"content-type", kind)]
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
            "path": "/v1/search", "raw_path": b"/v1/search", "root_path": "", "scheme": "http",
            "query_string": b"", "headers": headers, "client": ("a", 1), "server": ("a", 80),
        }  # fmt: skip
        await made.client.app(scope, receive, send)

    asyncio.run(main())
    assert cancelled == ["encode" if image else "search"]
    assert sent == []
    assert made.client.app.guard.working == 0


def test_a_batch_takes_a_place_a_query(rig: Rigs) -> None:
    made = rig(max_concurrency=4)
    guard = made.client.app.guard
    seen: list[int] = []
    searcher = made.shards[0]

    async def looking(method: str, *arguments: Any) -> Any:
        seen.append(guard.working)
        return await searcher(method, *arguments)

    made.service.replicas.searchers = [looking]

    def batch(count: int) -> Any:
        return made.client.post("/v1/search/batch", json={"ids": ["i0001"] * count})

    assert batch(4).status_code == 200
    assert seen == [4] * 4
    assert guard.working == 0
    large = batch(5)
    assert (large.status_code, "at once: send fewer" in large.json()["detail"]) == (422, True)
    guard.working = 2
    full = batch(3)
    assert (full.status_code, full.headers["retry-after"]) == (429, "1")
    assert "2 more are wanted" in full.json()["detail"]
    assert batch(2).status_code == 200
    assert guard.working == 2


def test_in_a_batch_each_has_an_answer_or_a_problem_of_its_own(rig: Rigs) -> None:
    made = rig()
    searcher = made.shards[0]

    async def sometimes(method: str, query: Any) -> Any:
        if query.request.id == "i0002":
            raise KeyError("ours")
        if query.request.id == "i0003":
            raise ConnectionError("dead")
        return await searcher(method, query)

    made.service.replicas.searchers = [sometimes]
    reply = made.client.post("/v1/search/batch", json={"ids": ["i0001", "i0002", "i0003", "nobody", "i0004"]})
    assert reply.status_code == 200
    statuses = [one.get("status", 200) for one in reply.json()["replies"]]
    assert statuses == [200, 500, 503, 404, 200]
