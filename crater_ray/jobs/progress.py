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
    """Parts done of parts listed, images so far, images a second, time left. Use it as a context manager."""

    def __init__(self, what: str, parts: int, quiet: bool = False) -> None:
        self.what, self.parts, self.quiet = what, parts, quiet
        self.done = self.images = 0
        self._start = self._last = time.monotonic()
        console = Console(stderr=True)
        self._bar = None
        if console.is_terminal and not quiet:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("parts"),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=console,
            )
            self._task = self._bar.add_task(what, total=parts, rate="")

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

    def update(self, done: int, images: int) -> None:
        """`images` were encoded in this run (parts that were there already do not count)."""
        self.done, self.images = done, images
        if self._bar:
            self._bar.update(self._task, completed=done, rate=f"{images} images, {self._rate():.1f}/s")
        elif not self.quiet and time.monotonic() - self._last > PLAIN_SECONDS:
            self._last = time.monotonic()
            self._say()

    def _rate(self) -> float:
        return self.images / max(1e-9, time.monotonic() - self._start)

    def _say(self) -> None:
        spent = time.monotonic() - self._start
        left = (
            f", about {spent / self.done * (self.parts - self.done):.0f} s left"
            if 0 < self.done < self.parts
            else ""
        )
        print(
            f"{self.what}: {self.done} of {self.parts} parts, {self.images} images, "
            f"{self._rate():.1f} images/s{left}",
            file=sys.stderr,
            flush=True,
        )
