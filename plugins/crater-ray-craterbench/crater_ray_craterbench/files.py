"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crater_ray.errors import StorageFull


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a full disk or quota into StorageFull; every other OSError passes."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFull(f"no room left for {path}; free some and run again, nothing is lost") from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path to write to; `path` then is that file, or is as it was if the body raises."""
    own = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield own
            with own.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(own, path)
    finally:
        own.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """`path` holds `data`, all of it or as it was before. Raises StorageFull."""
    with whole_file(path) as own:
        own.write_bytes(data)
