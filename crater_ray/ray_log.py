"""Ray's own talk, in a file: a terminal shows what crater-ray and its plugins say, and nothing else.

While Ray runs, the file descriptors 1 and 2 lead to the file, for Ray's C++ and its processes write there.
Our streams keep copies of the old ones. What code of Ray writes to our streams, as loggers and threads do,
goes to the file as well.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from crater_ray.errors import UserError

RAY = frozenset({"ray", "grpc", "opentelemetry", "aiohttp", "uvicorn"})  # packages of Ray's own affairs
BETWEEN = sys.stdlib_module_names | {"click", "rich", "colorama", "tqdm"}  # they write for somebody else
PRINT = ("ray.experimental.tqdm_ray", "safe_print")  # Ray puts it in place of the builtin print
_active: Path | None = None
_kept: Path | None = None


def kept_log() -> Path | None:
    """The file of what failed last in this process, if Ray had something to say."""
    return _kept


@contextmanager
def ray_apart() -> Iterator[None]:
    """Keeps Ray's talk in a file; the file stays when what is inside fails by no mistake of the user's."""
    global _active, _kept
    if _active is not None:
        yield
        return
    descriptor, name = tempfile.mkstemp(prefix="crater-ray-", suffix=".log")
    _active, _kept = Path(name), None
    before = sys.stdout, sys.stderr
    sys.stdout.flush(), sys.stderr.flush()
    log = os.fdopen(descriptor, "w", encoding="utf-8", errors="replace", buffering=1)
    apart = [_Apart(_moved(stream, number, log), log) for number, stream in enumerate(before, 1)]
    sys.stdout, sys.stderr = apart
    try:
        yield
    except BaseException as error:
        mistake = isinstance(error, UserError | KeyboardInterrupt | SystemExit | GeneratorExit)
        _kept = None if mistake else _active
        raise
    finally:
        for number, (one, stream) in enumerate(zip(apart, before, strict=True), 1):
            one.back(stream, number)
        sys.stdout, sys.stderr = before
        log.close()
        if _kept is not None and not _active.stat().st_size:
            _kept = None
        if _kept is None:
            _active.unlink(missing_ok=True)
        _active = None


def _moved(stream: TextIO, number: int, log: TextIO) -> TextIO:
    """A stream to where descriptor `number` led, which now leads to the log; `stream` where it is another."""
    try:
        if stream.fileno() != number:
            return stream
        copy = os.dup(number)  # never closed: what crashes later may still write there
    except (OSError, ValueError):  # closed, or of a test or a notebook
        return stream
    os.dup2(log.fileno(), number)
    return open(copy, "w", encoding=stream.encoding, errors=stream.errors, buffering=1, closefd=False)


class _Apart:
    """A text stream: what code of Ray writes goes to the log, the rest to the terminal."""

    def __init__(self, stream: TextIO, log: TextIO) -> None:
        self._stream, self._log = stream, log
        self._whole = False

    def write(self, text: str) -> int:
        if not self._whole and _of_ray(sys._getframe(1)):
            with suppress(ValueError):  # closed
                return self._log.write(text)
        return self._stream.write(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def back(self, stream: TextIO, number: int) -> None:
        """Whoever still holds this writes to `stream` from now on; the descriptor leads there again."""
        self._stream.flush()
        if self._stream is not stream:
            os.dup2(self._stream.fileno(), number)
        self._stream, self._whole = stream, True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _of_ray(frame: FrameType | None) -> bool:
    """Whether the nearest code that does not write for somebody else is Ray's."""
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        package = name.partition(".")[0]
        if (name, frame.f_code.co_name) != PRINT:
            if package in RAY:
                return True
            if package not in BETWEEN and frame.f_globals is not globals():
                return False
        frame = frame.f_back
    return False
