"""What a bench has measured, a line of JSON each: appended whole, so that a killed run goes on from there.

<out>/bench/tokens.jsonl · ap/<key>.npy (Q,) float64: the AP of each query, NaN where none counts; it is first
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from crater_ray.errors import ConfigError
from crater_ray.files import write_whole, writing
from crater_ray.jobfile import url_of

Array = np.ndarray[Any, Any]


def check_folder(root: Path) -> None:
    """Raises ConfigError for an address on object storage."""
    url = url_of(root)
    if url is not None:
        raise ConfigError(f"{url}: results are written into a folder; name one in `out` or with --out")


class Ledger:
    """Results by key. A line that was being written when its run died is dropped, its work done again."""

    def __init__(self, root: Path, name: str = "tokens") -> None:
        self.folder = root / "bench"
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / f"{name}.jsonl"
        self.results: dict[str, dict[str, Any]] = {}
        data = self.path.read_bytes() if self.path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        for line in whole.splitlines():
            try:
                told = json.loads(line)
                key = told["key"]
            except (ValueError, KeyError, TypeError):
                continue  # damaged: measured again
            if self._aps(key).exists():
                self.results[key] = told
        if len(whole) < len(data):
            os.truncate(self.path, len(whole))

    def add(self, key: str, told: dict[str, Any], aps: Array) -> None:
        """One result, on the disk when this returns. Raises StorageFull."""
        file = io.BytesIO()
        np.save(file, aps, allow_pickle=False)
        write_whole(self._aps(key), file.getvalue())
        told = {"key": key, **told}
        data = (json.dumps(told, ensure_ascii=False) + "\n").encode()
        with writing(self.path), self.path.open("ab", buffering=0) as lines:
            at = 0
            while at < len(data):
                at += lines.write(data[at:]) or 0
            os.fsync(lines.fileno())
        self.results[key] = told

    def aps(self, key: str) -> Array:
        """(Q,) float64 of a result."""
        return np.asarray(np.load(self._aps(key), allow_pickle=False))

    def _aps(self, key: str) -> Path:
        return self.folder / "ap" / f"{key}.npy"
