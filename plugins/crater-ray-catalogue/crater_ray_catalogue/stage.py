"""One run a folder at a time, and digests of what a file was made of."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import xxhash

from crater_ray.errors import UserError
from crater_ray.files import lock_file, make_folder


def key(*parts: object) -> str:
    """A digest of plain data: files made of the same things have the same name."""
    return xxhash.xxh3_64_hexdigest(json.dumps(parts, sort_keys=True, default=str).encode())


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Holds folder/.lock; the kernel frees it when this process ends. Raises UserError where it is held."""
    handle = lock_file(make_folder(folder) / ".lock")
    if handle is None:
        raise UserError(f"another run writes {folder}; wait for it to end")
    try:
        yield
    finally:
        os.close(handle)
