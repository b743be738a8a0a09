"""Progress of long work: a live bar on a terminal, a plain line now and then elsewhere; on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

PLAIN_SECONDS = 20.0


class Counter:
    """Parts done of parts listed, images so far, images a second, time left. Use it as a context manager.

    `unit` is what is counted where it is not parts; `images`, how many there are where that is known: then
    they are what is counted, also within a part.
    """

    def __init__(
        self, what: str, total: int, quiet: bool = False, *, unit: str = "parts", images: int | None = None
    ) -> None:
        self.what, self.total, self.quiet, self.unit, self.every = what, total, quiet, unit, images
        self.done = self.there = 0
        self.images: int | None = None
        self._start = self._last = time.monotonic()
        console = Console(stderr=True)
        self._bar = None
        if console.is_terminal and not quiet:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(unit if images is None else "images"),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=console,
            )
            self._task = self._bar.add_task(what, total=total if images is None else images, rate="")

    def __enter__(self) -> Counter:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        if not self.quiet and kind is None:
            self._say()

    def update(self, done: int, images: int | None = None, there: int = 0) -> None:
        """`images` were encoded in this run; `there` lie in parts that were done before."""
        self.done, self.images, self.there = done, images, there
        if self._bar:
            self._bar.update(self._task, completed=self._settled(), rate=self._rate())
        elif not self.quiet and time.monotonic() - self._last > PLAIN_SECONDS:
            self._last = time.monotonic()
            self._say()

    def _settled(self) -> int:
        """Of images where their number is known, else of what else is counted."""
        if self.every is None:
            return self.done
        return min(self.every, self.there + (self.images or 0))

    def _rate(self) -> str:
        spent = max(1e-9, time.monotonic() - self._start)
        if self.images is None:
            return f"{self.done / spent:.1f} {self.unit}/s"
        told = f"{self.images / spent:.1f} images/s"
        return told if self.every is not None else f"{self.images} images, {told}"

    def _say(self) -> None:
        parts = f"{self.done:,} of {self.total:,} {self.unit}"
        told = parts if self.every is None else f"{self._settled():,} of {self.every:,} images, {parts}"
        print(f"{self.what}: {told}, {self._rate()}{self._left()}", file=sys.stderr, flush=True)

    def _left(self) -> str:
        """Time, at the rate of what this run has done itself."""
        spent = time.monotonic() - self._start
        fresh, every = (self.done, self.total) if self.every is None else (self.images or 0, self.every)
        missing = every - self._settled()
        return f", about {spent / fresh * missing:.0f} s left" if fresh and missing else ""
