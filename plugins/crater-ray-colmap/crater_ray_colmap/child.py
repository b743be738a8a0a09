"""COLMAP in a process of its own: where it aborts, an error says so and nothing that was done is lost."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from crater_ray.errors import CraterRayError

WORKER = Path(__file__).with_name("worker.py")
TASK, ANSWER, LOG = "task.json", "answer.json", "log.txt"
LAST = 4  # lines of the log in a message


class ColmapFailed(CraterRayError):
    """COLMAP's process died or refused; what earlier stages made is kept."""


def run(
    do: str, task: Mapping[str, Any], folder: Path, *, lock: int = -1, console: Console
) -> dict[str, Any]:
    """The answer of worker.py to one task; its files are `folder`'s task.json, answer.json and log.txt.

    The process ends with this one, even where this one is killed: it reads a pipe that nobody writes to.
    Raises ColmapFailed with the log's last lines.
    """
    (folder / ANSWER).unlink(missing_ok=True)
    (folder / TASK).write_text(json.dumps({"do": do, **task}, default=str), encoding="utf-8")
    with (folder / LOG).open("ab") as log, console.status(f"COLMAP: {do}"):
        process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), str(folder / TASK), str(folder / ANSWER)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=[] if lock < 0 else [lock],
        )
        with process:
            try:
                code = process.wait()
            except BaseException:
                process.kill()
                raise
    if code == 0:
        return dict(json.loads((folder / ANSWER).read_text(encoding="utf-8")))
    how = f"ended with code {code}"
    if code < 0:
        how = f"was ended by {signal.Signals(-code).name}"
    if code == -signal.SIGKILL:
        how += ", as the system does when memory is short (lower features, image_size or threads)"
    raise ColmapFailed(
        f"COLMAP {how} at {do!r}: {last_words(folder / LOG)}; the whole log is {folder / LOG}. "
        f"What was done before is kept: run the same command again, without {folder} if it ends here twice"
    )


def last_words(log: Path) -> str:
    """The last lines of a log that say something: no stack frames, no progress."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    loud = [
        line for line in lines if re.match(r"[EF]\d{8} ", line) or re.match(r"\w*(Error|Exception)\b", line)
    ]
    said = loud or [line for line in lines if line.strip() and not re.match(r"\s+@|\*\*\*|I\d{8} ", line)]
    return " | ".join(line.strip() for line in said[-LAST:]) or "it said nothing"
