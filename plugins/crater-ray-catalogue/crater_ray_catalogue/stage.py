"""Files whole or not at all, one run a folder at a time, and digests of what a file was made of."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import xxhash

from crater_ray.errors import UserError


def key(*parts: object) -> str:
    """A digest of plain data: files made of the same things have the same name."""
    return xxhash.xxh3_64_hexdigest(json.dumps(parts, sort_keys=True, default=str).encode())


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """`path`, written by write(elsewhere) and put in its place in one step."""
    attempt = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(attempt)
        attempt.replace(path)
    finally:
        attempt.unlink(missing_ok=True)
    return path


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Holds folder/.lock; the kernel frees it when this process ends. Raises UserError where it is held."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another run writes {folder}; wait for it to end") from None
        yield
    finally:
        os.close(handle)
