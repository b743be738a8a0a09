"""Work that follows other work in a thread of its own: in order, and never far behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType


class Behind:
    """One thread that does what it is given in order; at most `most` pieces of work wait or are under way.

    With `most` = 0 there is no thread: work is done when it is given. A context manager: it ends when all is
    done, and raises what the work raised.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="behind") if most else None
        self._given: deque[Future[None]] = deque()

    def put(self, work: Callable[[], None]) -> None:
        """Waits while there is too much. Raises what earlier work raised."""
        if self._thread is None:
            work()
            return
        while len(self._given) >= self._most:
            self._given.popleft().result()
        self._given.append(self._thread.submit(work))

    def wait(self) -> None:
        """Until all is done. Raises what the work raised."""
        while self._given:
            self._given.popleft().result()

    def __enter__(self) -> Behind:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown(cancel_futures=True)
