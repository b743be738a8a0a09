"""Work that is done once: a folder with a marker, so that the same command goes on where it was cut."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xxhash

from crater_ray.errors import UserError

STARTED, DONE, LOCK = "started.json", "done.json", ".lock"
PATIENCE = 10.0  # seconds that a killed run's last process may need to end


def key(*parts: object) -> str:
    """A digest of plain data: stages made of the same things are the same."""
    return xxhash.xxh3_128_hexdigest(json.dumps(parts, sort_keys=True, default=str).encode())


def once(folder: Path, made_of: str, work: Callable[[Path], Mapping[str, Any]]) -> dict[str, Any]:
    """What work(folder) gave, now or when it was done before; "seconds" is the time of the run that ended.

    A folder that was started from other things is emptied first. One that was started from the same and cut
    is handed to `work` as it is: work goes on from what it finds. "resumed" says so.
    """
    started, done = _read(folder / STARTED), _read(folder / DONE)
    if done.get("key") == made_of:
        return dict(done["result"])
    resumed = started.get("key") == made_of
    if not resumed and folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / STARTED, {"key": made_of})
    clock = time.perf_counter()
    result = dict(work(folder))
    result = {**result, "seconds": round(time.perf_counter() - clock, 2), "resumed": resumed}
    write_json(folder / DONE, {"key": made_of, "result": result})
    return result


def write_json(path: Path, value: object) -> None:
    """Whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def alone(folder: Path) -> Iterator[int]:
    """Holds folder/.lock and gives its descriptor, for child processes to hold as well.

    The kernel frees it when the last of them dies, however it dies. Raises UserError when another run has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise UserError(f"another run writes {folder}; wait for it to end") from None
                time.sleep(0.1)
        yield handle
    finally:
        os.close(handle)


def _read(path: Path) -> dict[str, Any]:
    """The marker, or nothing where there is none or it was cut."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
