"""Work that is done once: a folder with a marker, so that the same command goes on where it was cut."""

from __future__ import annotations

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
from crater_ray.files import lock_file, make_folder, write_whole

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
    write_whole(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


@contextmanager
def alone(folder: Path) -> Iterator[int]:
    """Holds folder/.lock and gives its descriptor, for child processes to hold as well.

    The kernel frees it when the last of them dies, however it dies. Raises UserError when another run has it.
    """
    make_folder(folder)
    until = time.monotonic() + PATIENCE
    while (handle := lock_file(folder / LOCK)) is None:
        if time.monotonic() > until:
            raise UserError(f"another run writes {folder}; wait for it to end")
        time.sleep(0.1)
    try:
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
