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

    `unit` is what is counted where it is not parts.
    """

    def __init__(self, what: str, total: int, quiet: bool = False, *, unit: str = "parts") -> None:
        self.what, self.total, self.quiet, self.unit = what, total, quiet, unit
        self.done = 0
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
                TextColumn(unit),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=console,
            )
            self._task = self._bar.add_task(what, total=total, rate="")

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

    def update(self, done: int, images: int | None = None) -> None:
        """`images` were encoded in this run (parts that were there already do not count)."""
        self.done, self.images = done, images
        if self._bar:
            self._bar.update(self._task, completed=done, rate=self._rate())
        elif not self.quiet and time.monotonic() - self._last > PLAIN_SECONDS:
            self._last = time.monotonic()
            self._say()

    def _rate(self) -> str:
        spent = max(1e-9, time.monotonic() - self._start)
        if self.images is None:
            return f"{self.done / spent:.1f} {self.unit}/s"
        return f"{self.images} images, {self.images / spent:.1f} images/s"

    def _say(self) -> None:
        spent = time.monotonic() - self._start
        left = (
            f", about {spent / self.done * (self.total - self.done):.0f} s left"
            if 0 < self.done < self.total
            else ""
        )
        print(
            f"{self.what}: {self.done} of {self.total} {self.unit}, {self._rate()}{left}",
            file=sys.stderr,
            flush=True,
        )
