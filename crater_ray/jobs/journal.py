"""Which image a worker was at when it died."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

from crater_ray.index.bucket import folder
from crater_ray.index.store import TMP, make_folder, room


class Journal:
    """Names each image before it is touched, so that the next worker knows which one killed this one."""

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.path = make_folder(root, folder(root) / TMP) / f"{name}.journal"
        self._kills: Counter[str] = Counter()
        told = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        for line in told.splitlines():
            try:
                event, id = json.loads(line)
            except ValueError:
                continue  # the line that was being written when the disk was full, or the power went
            self._kills[id] += 1 if event == "begin" else -1
        with room(root, self.path):
            self._file = self.path.open("ab", buffering=0)  # nothing is written later than it is told
        if told and not told.endswith("\n"):
            self._write(b"\n")

    def kills(self, id: str) -> int:
        return self._kills[id]

    def begin(self, id: str) -> None:
        self._write(json.dumps(["begin", id]).encode() + b"\n")
        with room(self.root, self.path):
            os.fsync(self._file.fileno())

    def survived(self, id: str) -> None:
        self._write(json.dumps(["survived", id]).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        with room(self.root, self.path):
            while line:
                line = line[self._file.write(line) :]

    def close(self) -> None:
        """The work is committed: the journal has served."""
        self._file.close()
        self.path.unlink(missing_ok=True)
